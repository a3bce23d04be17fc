import { resultOf, step } from '../../spec/job.js';
import { sameBytes } from '../base/bytes.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { failureOf, isFailure, PendingWork } from '../group/job-outcome.js';
import type { FoundReplica } from '../objects/found-object.js';
import { describedTypes, isProvenByIdentity, isRenamed } from '../objects/identity.js';
import { hex, objectOf } from '../objects/note.js';
import { VirtualObject } from '../objects/object.js';
import { compare } from '../replicas/fingerprint.js';
import { surveyKeyRecords, surveyMember } from '../replicas/survey.js';

/**
 * Objects of a member that no other member has under the same identity. While the member was out of step, another
 * process may have renamed an object on it only: no record tells that identity.
 */
export class RenamedObjects {
  #found: readonly FoundReplica[] | undefined;
  /** Handles by identity, as the member's key records tell. */
  readonly #handles = new Map<string, number>();

  constructor(
    readonly group: Group,
    readonly connection: Connection,
    /** Connection of a member that has all objects. */
    readonly other: Connection,
  ) {}

  /**
   * Finds an object by its proofs; returns it under its identity on the member, undefined if none matches. A copy has
   * the same key and is another object, so an object with a key record of another handle never matches. Returns
   * 'unknown' if an object that may be the one could not be read: a copy could double it then.
   */
  *find(object: VirtualObject): Task<VirtualObject | 'unknown' | undefined> {
    this.#found ??= yield* this.#survey();
    if (![...this.#handles.values()].includes(object.handle)) return undefined;
    const work = new PendingWork();
    work.epoch = this.connection.epoch;
    for (const found of this.#found) {
      const isSameKind =
        isRenamed(object.description, found.description) && sameBytes(object.valueDigest, found.valueDigest);
      const owner = this.#handles.get(hex(found.identity)) ?? object.handle;
      if (!isSameKind || owner !== object.handle) continue;
      const comparison = isProvenByIdentity(object.description)
        ? 'same'
        : yield* compare(this.group, this.connection, object, found, work);
      if (typeof comparison !== 'string') return 'unknown';
      if (comparison === 'same') return yield* this.#named(object, found, work);
    }
    return undefined;
  }

  /** Lists the objects; none if a member cannot be surveyed, as long as partial objects are on it. */
  *#survey(): Task<readonly FoundReplica[]> {
    const own = yield* surveyMember(this.connection);
    const theirs = yield* surveyMember(this.other);
    const records = yield* surveyKeyRecords(this.connection);
    if (isFailure(own) || isFailure(theirs) || isFailure(records)) return [];
    for (const { note } of records.values()) this.#handles.set(hex(objectOf(note).identity), note.handle);
    return own.objects.filter(({ identity }) => theirs.of(identity).length === 0);
  }

  *#named(object: VirtualObject, found: FoundReplica, work: PendingWork): Task<VirtualObject | 'unknown'> {
    const steps = [step('C_GetAttributeValue', found.handle, describedTypes)];
    const outcome = yield* this.connection.run({ steps }, 'find', FOREVER, work);
    if (outcome.kind !== 'reply' || failureOf(outcome) !== undefined) return 'unknown';
    const read = resultOf(outcome.reply, 0, 'C_GetAttributeValue');
    const named = new VirtualObject(object.handle, found.identity, found.description, object.ordinal);
    named.described = read.map(({ presence, value }) => (presence === 'present' ? new Uint8Array(value) : undefined));
    named.valueDigest = object.valueDigest;
    named.use = object.use;
    for (const [kind, proof] of object.reference) named.reference.set(kind, proof);
    named.referenced = true;
    return named;
  }
}
