import { CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { fromHex } from '../objects/note.js';
import type { MemberNote } from '../records/record.js';
import { findTransport } from './domain-installation.js';
import { generateDomainKey } from './domain-key.js';

/**
 * Proves that a member's token holds the private half of its transport key: a key that `challenger` makes for this, and
 * wraps for that note alone, is the same key once the token has unwrapped it (Rule 19). Throws otherwise.
 */
export function* proveTransport(
  group: Group,
  challenger: Member,
  member: Member,
  note: MemberNote,
  deadline: number,
): Task<void> {
  const { salt } = group;
  const id = group.port.randomBytes(8);
  const { note: made, forms } = yield* generateDomainKey(group, challenger, id, salt, [note], deadline);
  const form = forms.get(note.serial) ?? fromHex('');
  const wrapped = { transport: note, note: made, form, salt };
  if ((yield* findTransport(group, member, wrapped, deadline)) === undefined)
    refuse(CKR.actionProhibited, `the token of ${member.name} does not hold its transport key`);
}
