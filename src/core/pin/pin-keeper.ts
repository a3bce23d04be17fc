import { FOREVER, type Task } from '../base/task.js';
import { awaitCompletion, race, sleepUntil, waitUntil } from '../base/waiting.js';
import { takeClaim, whileClaimed } from '../group/claimed-work.js';
import type { Group } from '../group/group.js';
import { learnFromAll } from '../joining/pin-record.js';
import type { PinNote } from '../records/record.js';
import { clearRest, completePinChange, mayBeCompleted } from './pin-change-completion.js';
import { holdersIn } from './pin-notes.js';

/** Polling interval for an unfinished PIN change, which another process may be completing (ms). */
const CHANGE_POLL = 250;
/** Multiple of `hangAfter` for which a completion waits for members that are joining. */
const AWAIT_MULTIPLE = 5;

/**
 * Completes interrupted PIN changes beside the application's calls, and gives members that return the PIN that they
 * have missed. Never ends by itself.
 */
export function* keepPins(group: Group): Task<void> {
  const { pins, port, policy } = group;
  for (;;) {
    const { note } = pins;
    if (!pins.isBusy && pins.isHeard) {
      pins.isHeard = false;
      yield* sleepUntil(port.now() + CHANGE_POLL);
      yield* runToEnd(group, learnFromAll(group, port.now() + policy.hangAfter));
      continue;
    }
    if (!pins.isBusy && holdersIn(group).some(({ serial }) => pins.isUncleared(serial))) {
      yield* runToEnd(group, clearRest(group));
      yield* sleepUntil(port.now() + CHANGE_POLL);
      continue;
    }
    if (note === undefined || pins.isBusy) {
      yield* race(pins.uncleared.size > 0 ? [pins.changed, group.changed] : [pins.changed]);
      continue;
    }
    if (note.state === 'changing') yield* awaitMembers(group, port.now() + policy.hangAfter * AWAIT_MULTIPLE);
    if (isDue(group, note)) {
      yield* runToEnd(group, learnAndComplete(group));
    } else if (note.state === 'changing') yield* learnFromAll(group, port.now() + policy.hangAfter);
    if (pins.note === undefined) continue;
    // While only absent members are to be changed, wait without a time limit.
    const isWaiting = pins.note.state === 'pending' && !isDue(group, pins.note);
    yield* race([pins.changed, group.changed], isWaiting ? FOREVER : port.now() + CHANGE_POLL);
  }
}

function* awaitMembers(group: Group, until: number): Task<void> {
  const isComing = (): boolean =>
    group.members.some(({ state }) => state.name === 'joining' || state.name === 'recovering');
  yield* waitUntil(group.port, [group.changed], () => !isComing(), until);
}

/** Returns true if a change can be completed, or continued on a member, now. */
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

/** Runs a task under the claim, in one process at a time; the task ends even if the group is being closed. */
function* runToEnd(group: Group, task: Task<void>): Task<void> {
  const { port } = group;
  const running = port.start(claimed(group, task));
  group.keepAlive(running);
  yield* awaitCompletion(port, running);
  if (running.ended?.ok === false) port.warn(running.ended.error);
}

function* claimed(group: Group, task: Task<void>): Task<void> {
  const { port, pins } = group;
  const claim = yield* takeClaim(group, 'pin', port.now());
  if (claim === undefined) return;
  pins.isBusy = true;
  try {
    yield* whileClaimed(group, [claim], task);
  } finally {
    pins.isBusy = false;
    claim.release();
    pins.changed.fire();
  }
}
