import { CKR } from '../../spec/codes.js';
import type { Task } from '../base/task.js';
import { awaitCompletion } from '../base/waiting.js';
import type { ReplicatedChange } from './replicated-change.js';

/**
 * Runs a change to its end, also when its caller leaves. A caller whose deadline passes, or who gives up, gets the
 * error at once; the change is then undone in the background. A committed change succeeds even then.
 */
export function* carryOut<T>(change: ReplicatedChange, body: Task<T>): Task<T> {
  const { group } = change;
  const running = group.port.start(tracked(change, body));
  group.keepAlive(running);
  try {
    const { port } = group;
    yield* awaitCompletion(port, running, change.deadline);
    // After the commit the caller has its result; the remaining records are written in the background.
    if (!running.completed && change.committed !== undefined) return change.committed.value as T;
    const { ended } = running;
    if (ended?.ok === true) return ended.value;
    if (ended?.ok === false) throw ended.error;
    const explanation = `not all members answered in time: ${group.describeMembers()}; the call is undone`;
    throw change.failure(change.records.at(-1)?.code ?? CKR.functionFailed, explanation);
  } finally {
    change.givenUp = true;
  }
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
