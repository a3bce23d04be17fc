import { CKR } from '../../spec/codes.js';
import type { TokenError } from '../base/error.js';
import type { Running, Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import { recordLateOutcome } from './outcome-record.js';
import type { ReplicatedChange } from './replicated-change.js';

/**
 * Runs a change to its end, also when its caller leaves. A caller whose deadline passes, or who gives up, hears the
 * outcome (Rule 20): if the change is decided, its result; if it is being undone, the error at once. If a member is
 * just doing what cannot be undone, a caller that gives up waits for the answer, and at the deadline the outcome is
 * unknown.
 */
export function* carryOut<T>(change: ReplicatedChange, body: Task<T>): Task<T> {
  const { group } = change;
  const { port } = group;
  const release = port.deferAbort(() => change.deferAbort());
  const running = port.start(tracked(change, body));
  group.keepAlive(running);
  try {
    for (;;) {
      // After the commit the caller has its result; the remaining records are written in the background.
      const isOver = change.isUnwanted || port.now() >= change.deadline;
      if (!running.completed && isOver && change.committed !== undefined) return change.committed.value as T;
      const { ended } = running;
      if (ended?.ok === true) return ended.value;
      if (ended?.ok === false) throw ended.error;
      if (port.now() >= change.deadline) throw lateError(change, running);
      yield* race([running, change.moved], change.deadline);
    }
  } finally {
    change.givenUp = true;
    release();
  }
}

/**
 * Carries out a change, and begins it anew while all members were lost before any had begun it: a member may be back in a
 * moment.
 */
export function* carryOutOnceBegun<T>(
  begin: () => ReplicatedChange,
  body: (change: ReplicatedChange) => Task<T>,
): Task<T> {
  for (;;) {
    const change = begin();
    try {
      return yield* carryOut(change, body(change));
    } catch (error) {
      const { isHopeless, port } = change.group;
      if (!change.hasNotBegun || change.isUnwanted || isHopeless || port.now() >= change.deadline) throw error;
    }
  }
}

/** Returns the error of a change that was abandoned: of an unknown outcome if another process may still finish it. */
export function abandonedError(change: ReplicatedChange, error: TokenError): TokenError {
  if (!change.isInDoubt) return error;
  change.group.outcomes.note(change.operation, 'unknown');
  return change.unknownOutcome(error.message);
}

function lateError(change: ReplicatedChange, running: Running<unknown>): unknown {
  const { group } = change;
  const explanation = `not all members answered in time: ${group.describeMembers()}`;
  if (change.isIrrevocable || change.mayBeFinished) {
    group.keepAlive(group.port.start(recordLateOutcome(group, change.operation, running)));
    return change.unknownOutcome(explanation);
  }
  return change.failure(change.records.at(-1)?.code ?? CKR.functionFailed, `${explanation}; the call is undone`);
}

/** Lists the change among those that this process works on while the body runs. */
function* tracked<T>(change: ReplicatedChange, body: Task<T>): Task<T> {
  const { changes } = change.group;
  changes.add(change.operation);
  try {
    return yield* body;
  } finally {
    changes.delete(change.operation);
  }
}
