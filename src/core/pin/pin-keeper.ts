import { FOREVER, type Task } from '../base/task.js';
import { awaitCompletion, race, sleepUntil, waitUntil } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import { learnFromAll } from '../joining/pin-record.js';
import type { PinNote } from '../records/record.js';
import { claimName } from './pin-change.js';
import { clearRest, completePinChange, mayBeCompleted } from './pin-change-completion.js';
import { holdersIn } from './pin-notes.js';

/** What another process may just be doing is looked at again so often (ms). */
const LOOK_AGAIN = 250;
/** Members that are on their way are waited for so long, times `hangAfter`. */
const AWAIT_MULTIPLE = 5;

/**
 * Beside the application's calls: finishes what an interrupted change of the PIN has left, and gives members that
 * return the PIN that they have missed. Never ends by itself.
 */
export function* keepPins(group: Group): Task<void> {
  const { pins, port, policy } = group;
  for (;;) {
    const { note } = pins;
    if (!pins.isBusy && holdersIn(group).some(({ serial }) => pins.isUncleared(serial))) {
      yield* apart(group, clearRest(group));
      yield* sleepUntil(port.now() + LOOK_AGAIN);
      continue;
    }
    if (note === undefined || pins.isBusy) {
      yield* race(pins.uncleared.size > 0 ? [pins.changed, group.changed] : [pins.changed]);
      continue;
    }
    if (note.state === 'changing') yield* awaitMembers(group, port.now() + policy.hangAfter * AWAIT_MULTIPLE);
    if (isDue(group, note)) {
      yield* apart(group, learnAndComplete(group));
    } else if (note.state === 'changing') yield* learnFromAll(group, port.now() + policy.hangAfter);
    if (pins.note === undefined) continue;
    // Who is away comes back when it comes back.
    const isWaiting = pins.note.state === 'pending' && !isDue(group, pins.note);
    yield* race([pins.changed, group.changed], isWaiting ? FOREVER : port.now() + LOOK_AGAIN);
  }
}

function* awaitMembers(group: Group, until: number): Task<void> {
  const isComing = (): boolean =>
    group.members.some(({ state }) => state.name === 'joining' || state.name === 'recovering');
  yield* waitUntil(group.port, [group.changed], () => !isComing(), until);
}

/** Whether something can be done just now. */
function isDue(group: Group, note: PinNote): boolean {
  if (note.state === 'changing') return mayBeCompleted(group, note) && holdersIn(group).length > 0;
  return note.missed.some(
    (serial) => !group.ledger.isMember(serial) || holdersIn(group).some((member) => member.serial === serial),
  );
}

function* learnAndComplete(group: Group): Task<void> {
  yield* learnFromAll(group, group.port.now() + group.policy.hangAfter);
  yield* completePinChange(group);
}

/** One process at a time; begun is finished, though the group is about to be closed. */
function* apart(group: Group, task: Task<void>): Task<void> {
  const { port } = group;
  const running = port.start(claimed(group, task));
  group.keepAlive(running);
  yield* awaitCompletion(port, running);
  if (running.ended?.ok === false) port.warn(running.ended.error);
}

function* claimed(group: Group, task: Task<void>): Task<void> {
  const { port, pins } = group;
  const release = port.claim(claimName(group));
  if (release === undefined) return;
  pins.isBusy = true;
  try {
    yield* task;
  } finally {
    pins.isBusy = false;
    release();
    pins.changed.fire();
  }
}
