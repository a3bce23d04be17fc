import { CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { verdictOn } from '../../spec/verdict.js';
import type { Group } from '../group/group.js';
import { failureOf, type JobOutcome } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';

/** Judgement of a login: `unknown` says nothing of the PIN. */
interface LoginJudgement {
  readonly outcome: 'right' | 'wrong' | 'unknown';
  readonly reason: string;
  readonly code: number;
}

/** Judges the outcome of a login; notes a login without an answer. */
export function judgeLogin(group: Group, member: Member, outcome: JobOutcome | undefined): LoginJudgement {
  const failure = outcome === undefined ? undefined : failureOf(outcome);
  const code = failure?.kind === 'code' ? failure.code : 0;
  if (outcome !== undefined && (failure === undefined || code === CKR.userAlreadyLoggedIn))
    return { outcome: 'right', reason: '', code };
  if (failure?.kind === 'code') {
    // CKR_PIN_LOCKED says nothing of the PIN that was tried.
    const isRefused = code !== CKR.pinLocked && verdictOn(code, group.policy.verdicts) === 'credential';
    return { outcome: isRefused ? 'wrong' : 'unknown', reason: `C_Login answered ${codeName(code)}`, code };
  }
  member.login.addUnknown();
  const reason = failure?.kind === 'lost' ? `${failure.reason} in C_Login` : 'C_Login did not answer in time';
  return { outcome: 'unknown', reason, code };
}
