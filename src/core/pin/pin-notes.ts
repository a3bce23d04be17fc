import { optional, resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { isReachable, runOnMember, runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { PinPair } from '../group/pins.js';
import type { MemberJob } from '../jobs/member-job.js';
import { findNotes, findPairLabels, noteIn, operationIn, writingJob } from '../joining/pin-record.js';
import type { PinNote } from '../records/record.js';

/** A member is waited for so long to take a note in, times `hangAfter`, besides its write. */
const WRITE_MULTIPLE = 2;

function patience({ port, policy }: Group): number {
  return port.now() + policy.hangAfter * WRITE_MULTIPLE + policy.writeHangAfter;
}

/** The members on which there are notes, or are to be: those that serve and have told which PIN they have. */
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

/** Writes a note on a member, and with it both PINs where there is a pair; TokenError where that fails. */
export function* writeNote(group: Group, member: Member, note: PinNote, pair: PinPair | undefined): Task<void> {
  const { secrets } = group.port;
  const joined = pair === undefined ? undefined : secrets.joined(pair.former, pair.next);
  try {
    const memberJob: MemberJob = { function: 'C_CreateObject', objects: [], job: () => writingJob(note, pair, joined) };
    yield* runOnMemberOrThrow(group, member, memberJob, patience(group));
  } finally {
    if (joined !== undefined) secrets.wipe(joined);
  }
}

/** Whether a note, or the PINs of its operation, have to go. */
export type IsOver = (operation: string, time?: number) => boolean;

export const everything: IsOver = () => true;

/** All but one note, with its PINs. */
export function allBut({ operation: kept, time: keptTime }: PinNote): IsOver {
  return (operation, time) => operation !== kept || (time !== undefined && time !== keptTime);
}

/** Takes notes and PINs off a member. False where that cannot be now. */
export function* clearNotes(group: Group, member: Member, isOver: IsOver): Task<boolean> {
  const reading: MemberJob = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [findNotes, findPairLabels] }),
  };
  const read = yield* runOnMember(group, member, reading, patience(group));
  if (read.kind !== 'done') return false;
  const notes = resultOf(read.reply, 0, 'X_Find').filter((found) => {
    const note = noteIn(found);
    return note === undefined || isOver(note.operation, note.time);
  });
  const pairs = resultOf(read.reply, 1, 'X_Find').filter((found) => isOver(operationIn(found)));
  if (notes.length + pairs.length === 0) return true;
  // The note goes last: PINs that no note speaks of would never be found again.
  const steps = [...pairs, ...notes].map(({ handle }) => optional(step('C_DestroyObject', handle)));
  const removing: MemberJob = { function: 'C_DestroyObject', objects: [], login: read.login, job: () => ({ steps }) };
  return (yield* runOnMember(group, member, removing, patience(group))).kind === 'done';
}
