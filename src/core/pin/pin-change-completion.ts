import type { SecretRef } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { PinPair } from '../group/pins.js';
import { hex } from '../objects/note.js';
import type { PinNote } from '../records/record.js';
import { changePinOn } from './member-pin-change.js';
import { allBut, clearNotes, everything, holdersIn, writeNote } from './pin-notes.js';

/**
 * Ends a PIN change: `target` is the PIN from now on. Removes PIN notes and PINs from the members. If members have
 * missed the change, the others keep a note with both PINs until those members return. A note that could not be written
 * or removed on a member is dealt with when that member can be reached.
 */
export function* spreadPin(
  group: Group,
  note: PinNote,
  pair: PinPair,
  target: SecretRef,
  missed: readonly string[],
): Task<void> {
  const { pins, port } = group;
  const holders = holdersIn(group).filter(
    ({ serial, login }) => login.pin === target && !missed.includes(serial ?? ''),
  );
  // A member that cannot be reached now is cleared when it returns.
  for (const serial of note.participants) {
    if (!missed.includes(serial) && group.ledger.isMember(serial)) pins.uncleared.set(serial, note.operation);
  }
  if (missed.length === 0) {
    for (const member of holders) {
      if ((yield* clearNotes(group, member, everything)) && member.serial !== undefined)
        pins.uncleared.delete(member.serial);
    }
    pins.forget();
    return;
  }
  const isForward = target === pair.next;
  // A change that goes back is a new one: from the PIN that was not kept to the former PIN.
  const operation = isForward ? note.operation : hex(port.randomBytes(8));
  const kept: PinNote = { ...note, operation, state: 'pending', missed, time: group.nextTimestamp() };
  const own: PinPair = isForward ? pair : { operation, former: pair.next, next: pair.former };
  for (const member of holders) {
    try {
      // Write the new note before the old note is removed.
      yield* writeNote(group, member, kept, isForward ? undefined : own);
      if ((yield* clearNotes(group, member, allBut(kept))) && member.serial !== undefined)
        pins.uncleared.delete(member.serial);
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
    }
  }
  pins.notice([kept]);
  pins.learn(own);
}

/**
 * Completes an interrupted PIN change on the members in service: forward if one of them has the new PIN, else back. The
 * caller holds the claim and has read the members' PIN notes.
 */
export function* completePinChange(group: Group): Task<void> {
  const { pins } = group;
  const { note, pairOfNote: pair } = pins;
  if (note === undefined || !mayBeCompleted(group, note)) return;
  const holders = holdersIn(group);
  if (pair === undefined) {
    // A note without PINs: either no member was changed yet, or the change is over.
    for (const member of holders) yield* clearNotes(group, member, everything);
    pins.forget();
    return;
  }
  const { former, next } = pair;
  const isForward = note.state === 'pending' || holders.some(({ login }) => login.pin === next);
  const [target, other] = isForward ? [next, former] : [former, next];
  const isChanging = note.state === 'changing';
  const concerned = [...(isChanging ? note.participants : []), ...(isForward ? note.missed : [])];
  const missed: string[] = [];
  const completed: Member[] = [];
  for (const serial of new Set(concerned)) {
    if (!group.ledger.isMember(serial)) continue;
    const member = holders.find((holder) => holder.serial === serial);
    if (member !== undefined && (yield* bringTo(group, member, target, other))) completed.push(member);
    else missed.push(serial);
  }
  if (!isChanging && missed.length === note.missed.length) return;
  pins.current = target;
  pins.completedTo = target;
  yield* spreadPin(group, note, pair, target, missed);
  if (pins.note === undefined) pins.wipeFormer();
  const names = completed.map(({ name }) => name);
  group.emit({ type: 'pin', what: isForward ? 'finished' : 'rolled back', members: names });
}

/** Removes notes of finished changes from members that could not be reached at the end of those changes. */
export function* clearRest(group: Group): Task<void> {
  const { uncleared, note } = group.pins;
  for (const member of holdersIn(group)) {
    const operation = uncleared.get(member.serial ?? '');
    if (operation === undefined || member.serial === undefined || !group.pins.isUncleared(member.serial)) continue;
    const isOver = (each: string, time?: number): boolean =>
      each === operation && (each !== note?.operation || (time !== undefined && time < note.time));
    if (yield* clearNotes(group, member, isOver)) uncleared.delete(member.serial);
  }
}

/** Changes a member's PIN to the target if it is not that already; returns true if the member then has the target. */
function* bringTo(group: Group, member: Member, target: SecretRef, other: SecretRef): Task<boolean> {
  if (member.login.pin === target) return true;
  if (member.login.pin !== other) return false;
  return (yield* changePinOn(group, member, other, target)).end === 'changed';
}

/** Returns true if no process works on the change any more. */
export function mayBeCompleted({ port, coordinator }: Group, { state, writer, expires }: PinNote): boolean {
  if (state === 'pending' || writer === coordinator.writer || coordinator.isWriterGone(writer) === true) return true;
  return port.wallNow() >= expires && coordinator.isWriterGone(writer) !== false;
}
