import { CKR, CKU } from '../../spec/codes.js';
import { type Job, type SecretRef, step } from '../../spec/job.js';
import { verdictOn } from '../../spec/verdict.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, failureOf, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { Renewal } from '../group/replica-state.js';
import { acceptPin, otherPinThan } from './other-pin.js';

/**
 * Returns the job that logs in on a connection's login session. The caller keeps Rule 6. If the member writes
 * exclusively (SoftHSM), the job counts as a write: the token writes at each login, and a kill would lose it (Rule 9).
 */
export function loginJob(member: Member, pin: SecretRef): Job {
  const longWrite = member.writesExclusively;
  return { steps: [step('C_Login', CKU.user, pin.length)], sessionless: true, secret: pin, longWrite };
}

class Renewing extends PendingWork implements Renewal {
  failure: Failure | undefined;
}

/**
 * Renews the sessions and the login of a connection, once for all calls that found them lost. A new login voids all
 * real handles: it begins a new epoch, and no other job runs during it (Rule 13). A refused PIN is not tried again
 * (Rule 6).
 */
export function renewLogin(group: Group, member: Member, connection: Connection): Renewal {
  if (connection.renewing !== undefined) return connection.renewing;
  const renewal = new Renewing();
  connection.renewing = renewal;
  group.port.start(
    (function* (): Task<void> {
      try {
        renewal.failure = yield* renew(group, member, connection, renewal);
      } catch (error) {
        renewal.failure = { kind: 'fault', error };
      } finally {
        connection.renewing = undefined;
        renewal.complete();
      }
    })(),
  );
  return renewal;
}

function* renew(group: Group, member: Member, connection: Connection, work: PendingWork): Task<Failure | undefined> {
  if (member.login.refusal !== undefined) return { kind: 'code', function: 'C_Login', code: member.login.refusal };
  const attach: Job = { steps: [step('X_Attach', connection.slot, connection.lanes)], sessionless: true };
  const attachFailure = failureOf(yield* connection.run(attach, 'attach', FOREVER, work));
  if (attachFailure !== undefined) return attachFailure;
  if (member.login.ownPin !== undefined || group.pin !== undefined) {
    connection.epoch += 1;
    connection.replicas.clear();
    connection.named.clear();
    connection.sessionObjects.clear();
    const failure = yield* logInAgain(group, member, connection, work);
    if (failure !== undefined) return failure;
  }
  connection.renewedAt = group.port.now();
  return undefined;
}

/** Logs in with the member's PIN; if that is refused, once with the other PIN of a change. */
function* logInAgain(
  group: Group,
  member: Member,
  connection: Connection,
  work: PendingWork,
): Task<Failure | undefined> {
  let pin = member.login.ownPin ?? group.pins.firstFor(member);
  for (let tries = 1; pin !== undefined; tries += 1) {
    const login = yield* connection.run({ ...loginJob(member, pin), exclusive: true }, 'login', FOREVER, work);
    const failure = failureOf(login);
    if (failure === undefined && member.login.ownPin === undefined) acceptPin(group, member, pin);
    if (failure === undefined || (failure.kind === 'code' && failure.code === CKR.userAlreadyLoggedIn))
      return undefined;
    if (failure.kind !== 'code' || verdictOn(failure.code, group.policy.verdicts) !== 'credential') return failure;
    const mayChange = tries === 1 && failure.code !== CKR.pinLocked && member.login.ownPin === undefined;
    pin = mayChange ? yield* otherPinThan(group, member, connection, pin) : undefined;
    if (pin === undefined) {
      member.login.refuse(failure.code);
      return failure;
    }
  }
  return undefined;
}
