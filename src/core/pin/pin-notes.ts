import { optional, resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { isReachable, runOnMember, runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { PinPair } from '../group/pins.js';
import type { MemberJob } from '../jobs/member-job.js';
import { findPairLabels, operationIn, writingJob } from '../joining/pin-record.js';
import { findNotes, noteIn } from '../records/ledger.js';
import type { PinNote } from '../records/record.js';

/** Multiple of `hangAfter` that reading or writing a note may take, besides its write. */
const WRITE_MULTIPLE = 2;

function deadlineOf({ port, policy }: Group): number {
  return port.now() + policy.hangAfter * WRITE_MULTIPLE + policy.writeHangAfter;
}

/** Returns the members that hold PIN notes: members of the record that serve, are filled, and whose PIN is known. */
export function holdersIn(group: Group): Member[] {
  return group.members.filter(
    (member) =>
      member.isServing &&
      isReachable(member) &&
      member.login.pin !== undefined &&
      group.ledger.record?.members.some(({ serial }) => serial === member.serial) === true &&
      !group.ledger.isFilling(member.serial),
  );
}

/** Writes a note on a member, with both PINs if a pair is given; throws a TokenError if that fails. */
export function* writeNote(group: Group, member: Member, note: PinNote, pair: PinPair | undefined): Task<void> {
  const { secrets } = group.port;
  const joined = pair === undefined ? undefined : secrets.joined(pair.former, pair.next);
  try {
    const memberJob: MemberJob = { function: 'C_CreateObject', objects: [], job: () => writingJob(note, pair, joined) };
    yield* runOnMemberOrThrow(group, member, memberJob, deadlineOf(group));
  } finally {
    if (joined !== undefined) secrets.wipe(joined);
  }
}

/** Returns true if a note, or the PINs of its operation, must be removed. A call for PINs gives no time. */
type IsOver = (operation: string, time?: number) => boolean;

/** Selects all notes and PINs. */
export const everything: IsOver = () => true;

/** Selects all notes and PINs except one note and its PINs. */
export function allBut({ operation: kept, time: keptTime }: PinNote): IsOver {
  return (operation, time) => operation !== kept || (time !== undefined && time !== keptTime);
}

/** Removes the selected notes and PINs from a member; returns false if the member could not do it. */
export function* clearNotes(group: Group, member: Member, isOver: IsOver): Task<boolean> {
  const reading: MemberJob = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [findNotes, findPairLabels] }),
  };
  const read = yield* runOnMember(group, member, reading, deadlineOf(group));
  if (read.kind !== 'done') return false;
  const notes = resultOf(read.reply, 0, 'X_Find').filter((found) => {
    const note = noteIn(found);
    return note !== undefined && isOver(note.operation, note.time);
  });
  const pairs = resultOf(read.reply, 1, 'X_Find').filter((found) => isOver(operationIn(found)));
  if (notes.length + pairs.length === 0) return true;
  // Remove notes last: PINs without a note would never be found again.
  const steps = [...pairs, ...notes].map(({ handle }) => optional(step('C_DestroyObject', handle)));
  const removing: MemberJob = { function: 'C_DestroyObject', objects: [], login: read.login, job: () => ({ steps }) };
  return (yield* runOnMember(group, member, removing, deadlineOf(group))).kind === 'done';
}
