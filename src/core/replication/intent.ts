import type { Attribute } from '../../spec/attribute.js';
import type { Group } from '../group/group.js';
import { noteAttributes, noteObject } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { ChangeRecord } from '../records/record.js';

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

/** Builds the intent of a change; `cleanupBy` is the time (ms of the port's clock) at which its writer gives up. */
export function intentOf(
  group: Group,
  operation: string,
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
    missed: [],
  };
}
