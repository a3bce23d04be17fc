import type { Connection } from './connection.js';
import type { Group } from './group.js';
import type { Member } from './member.js';
import type { Standing, VirtualObject } from './object.js';
import type { Effort, Failure } from './outcome.js';

/** What is known of a virtual object on one connection. */
export type Replica =
  | {
      readonly kind: 'usable';
      /** The real handle: eight bytes as the token gave them. */
      readonly handle: Uint8Array;
      /** Whether it was proven to be the group's key, or nothing could be proven. */
      readonly proven: boolean;
    }
  /** Another key of that name is there, or nothing; believed until `until`, since somebody may put it right. */
  | { readonly kind: 'misaligned' | 'absent'; readonly until: number };

/** A login being made new, shared by all that found theirs lost. */
export interface Renewal extends Effort {
  readonly failure: Failure | undefined;
}

/** A search for a replica under way, shared by all that need it. */
export interface Resolution extends Effort {
  readonly result: Replica | Failure | undefined;
}

/** Keeps what was found of an object on a connection, and how it stands there. */
export function remember(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  result: Replica | Failure | undefined,
): void {
  if (result === undefined) return;
  const note = (standing: Standing): void => {
    // Of session objects nobody has to know where they are.
    // Neither of those that nobody but the group itself knows of.
    if (object.session === undefined && group.objects.get(object.handle) === object)
      group.noteStanding(member, object, standing);
  };
  switch (result.kind) {
    case 'usable':
      connection.replicas.set(object, result);
      note(result.proven ? 'proven' : 'unproven');
      break;
    case 'misaligned':
    case 'absent':
      connection.replicas.set(object, result);
      note(result.kind);
      break;
    default:
      break;
  }
}
