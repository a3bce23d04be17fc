import { CKR } from '../../spec/codes.js';
import { TokenError } from '../base/error.js';
import { type AttemptEnd, nameRecord, verdictOf } from './attempt-end.js';
import { type CallState, candidatesOf } from './call-state.js';
import { lastingReason } from './lasting-reason.js';
import type { Quarantined } from './quarantine.js';

function callError(call: CallState, code: number, functionName: string, explanation: string): TokenError {
  return new TokenError(code, functionName, explanation, call.records, call.last?.member);
}

/** Makes the error of a call that ends with an attempt. */
export function failureError(call: CallState, end: AttemptEnd): unknown {
  if (end.kind === 'fault') return end.error;
  if (end.kind === 'code') return callError(call, end.code, end.function, '');
  const explanation = 'the outcome is unknown, and the call must not run again';
  return callError(call, CKR.functionFailed, call.operation.function, explanation);
}

/** Makes the error of a call that failed in quarantine too, or for which no spare host could be started. */
export function quarantineError(call: CallState, quarantined: Quarantined): TokenError {
  const alone =
    quarantined.attempt === undefined
      ? `no spare host could run it alone: ${quarantined.reason}`
      : 'it ran once more alone and failed again';
  const explanation = `the request ended every host that ran it; ${alone}`;
  return callError(call, CKR.functionFailed, call.operation.function, explanation);
}

/** Makes the error of a call whose deadline has passed; attempts that are still out become evidence. */
export function timeoutError(call: CallState): TokenError {
  const { group, operation, attempts, records } = call;
  for (const attempt of attempts) records.push(nameRecord(attempt.record, operation.function));
  const budget = (call.deadline - call.startedAt).toFixed(0);
  const [code, failure] =
    records.length === 0 ? [CKR.deviceRemoved, 'could be reached'] : [call.last?.code ?? CKR.deviceError, 'answered'];
  const explanation = `no member ${failure} within ${budget} ms: ${group.describeMembers()}`;
  return callError(call, code, operation.function, explanation);
}

/** Makes the error of a call without a member to ask if waiting cannot help; undefined if waiting may help. */
export function pointlessError(call: CallState): TokenError | undefined {
  const { group, operation, failed, last } = call;
  if (group.isHopeless) return callError(call, CKR.deviceRemoved, operation.function, group.describeMembers());
  const candidates = candidatesOf(call);
  const serving = candidates.filter((member) => member.isServing);
  const agreed = serving.length > 0 && serving.every((member) => verdictOf(failed?.endOn(member)) === 'ambiguous');
  if (agreed && last !== undefined) return callError(call, last.code, last.function, '');
  const reasons = candidates.map((member) => lastingReason(call, member));
  if (reasons.includes(undefined)) return undefined;
  if (reasons.includes('mechanism')) {
    const explanation =
      candidates.length > 1 ? 'no member has the mechanism' : `${candidates[0]?.name} lacks the mechanism`;
    return callError(call, last?.code ?? CKR.mechanismInvalid, operation.function, explanation);
  }
  const explanation = reasons.includes('object') ? '' : 'no member holds the object any more';
  return callError(call, CKR.keyHandleInvalid, operation.function, explanation);
}
