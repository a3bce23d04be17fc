import type { Attribute } from '../../spec/attribute.js';
import { resultOf } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import type { MemberJobEnd } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { noteAttributes, noteObject } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { ChangeRecord } from '../records/record.js';
import { missedBy } from './change-journal.js';
import type { WrittenObjects } from './written-objects.js';

/** Allowance for the clock of another host (ms): its clock may be ahead by this much. */
const CLOCK_SKEW = 30_000;

/** Change as its intent describes it. */
export interface IntendedChange {
  readonly what: ChangeRecord['what'];
  readonly objects: readonly VirtualObject[];
  /** Attributes that a `set` gives. */
  readonly changes: readonly Attribute[];
  /** Attributes that a `set` replaces. */
  readonly former: readonly Attribute[];
  /** Largest number of objects of equal identity that a member had before. */
  readonly before: number | 'unknown';
}

/**
 * Builds the intent of a change. Members that do not take part miss the change, and cannot know what becomes of it.
 * `cleanupBy` is the time (ms of the port's clock) at which its writer gives up.
 */
export function intentOf(
  group: Group,
  operation: string,
  participants: readonly Member[],
  { what, objects, changes, former, before }: IntendedChange,
  cleanupBy: number,
): ChangeRecord {
  const { port } = group;
  return {
    kind: 'intent',
    operation,
    what,
    notes: objects.map(noteObject),
    alone: before === 0,
    before: before === 'unknown' ? undefined : before,
    changes: noteAttributes(changes),
    former: noteAttributes(former),
    writer: group.coordinator.writer,
    time: group.nextTimestamp(),
    expires: port.wallNow() + (cleanupBy - port.now()) + CLOCK_SKEW,
    missed: missedBy(group, participants),
  };
}

/** Change that writes its intent. */
interface IntentWriter {
  readonly functionName: string;
  /** True if its caller has left. */
  readonly givenUp: boolean;
  run(member: Member, memberJob: MemberJob): Task<MemberJobEnd>;
}

/** Result of a try to write an intent. */
interface IntentWriting {
  /** Intent on the member that took it; undefined if none did. */
  readonly taken: WrittenObjects | undefined;
  /** Members that the change goes on with: those that were not lost. */
  readonly left: readonly Member[];
  /** True if a member that was lost may hold the intent. */
  readonly mayStand: boolean;
  /** Refusal that the caller is told of, if no member took the intent. */
  readonly refused: (MemberJobEnd & { readonly kind: 'refused' }) | undefined;
}

/** Writes an intent on the first member that takes it. */
export function* writeIntentOn(
  change: IntentWriter,
  members: readonly Member[],
  record: ChangeRecord,
): Task<IntentWriting> {
  const builder = new JobBuilder();
  const at = builder.addRecord(record);
  let left = members;
  let mayStand = false;
  let full: IntentWriting['refused'];
  for (const member of members) {
    if (change.givenUp) break;
    const end = yield* change.run(member, { function: change.functionName, objects: [], job: () => builder });
    if (end.kind === 'done') {
      const taken = { member, login: end.login, handles: [resultOf(end.reply, at, 'C_CopyObject')] };
      return { taken, left, mayStand, refused: undefined };
    }
    if (end.kind === 'refused' && end.verdict !== 'busy') return { taken: undefined, left, mayStand, refused: end };
    // A full token may still destroy an object.
    if (end.kind === 'refused') full = end;
    else left = left.filter((other) => other !== member);
    if (end.kind === 'gone' && end.begun) mayStand = true;
  }
  return { taken: undefined, left, mayStand, refused: mayStand ? undefined : full };
}
