import { CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import { FIRST_FORMAT, FORMAT, type GroupRecord } from '../records/record.js';
import { publishSigned } from '../wrapping/group-record-publication.js';
import { learnLatest } from '../wrapping/group-record-reading.js';
import { proveTransport } from '../wrapping/transport-proof.js';
import { recordOf, runClaimed, servingMembersOf } from './membership.js';

/** Result of `signGroup`. */
export interface SigningReport {
  readonly id: string;
  /** Public key whose private half has signed, in hexadecimal. */
  readonly publicKey: string;
  /** Members that the signed record names. */
  readonly members: readonly { readonly name: string; readonly serial: string }[];
  /** Names of members that the record named before and no longer names. */
  readonly leftOut: readonly string[];
}

/**
 * Signs the record of a group that no key has signed, or one that is lost. Each member that the record names must
 * serve, and prove that its token holds its transport key; those named in `without` are left out of the record.
 */
export function* signGroup(group: Group, without: readonly string[], deadline: number): Task<SigningReport> {
  recordOf(group);
  return yield* runClaimed(group, deadline, () => signExclusively(group, without, deadline));
}

function* signExclusively(group: Group, without: readonly string[], deadline: number): Task<SigningReport> {
  yield* learnLatest(group, deadline);
  const record = recordOf(group);
  // Former versions, which may still write such records, would leave out the signature.
  if ((record.format ?? FIRST_FORMAT) < FORMAT)
    refuse(
      CKR.actionProhibited,
      'the records have a former format: raise it with `pkcs11-ha group upgrade`, and sign then',
    );
  const isLeftOut = ({ name }: { readonly name: string }): boolean => without.includes(name);
  const unknown = without.find((name) => !record.members.some((note) => note.name === name));
  if (unknown !== undefined) refuse(CKR.argumentsBad, `the group has no member ${unknown}`);
  const rest = record.members.filter((note) => !isLeftOut(note));
  if (rest.length === 0) refuse(CKR.actionProhibited, 'a group needs at least one member');
  const { authority } = group.port;
  const problem = authority.canSign(record.id) ? undefined : authority.prepare(record.id);
  if (problem !== undefined) refuse(CKR.actionProhibited, problem);
  const serving = servingMembersOf(group, rest);
  for (const [index, member] of serving.entries()) {
    const note = rest[index];
    const challenger = serving.find((other) => other !== member) ?? member;
    if (note !== undefined) yield* proveTransport(group, challenger, member, note, deadline);
  }
  const stays = (serial: string): boolean => rest.some((note) => note.serial === serial);
  const kept = ({ pending = {}, filling = [], drained = [], ...now }: GroupRecord): Partial<GroupRecord> => ({
    members: now.members.filter((note) => !isLeftOut(note)),
    pending: Object.fromEntries(Object.entries(pending).filter(([serial]) => stays(serial))),
    filling: filling.filter(stays),
    drained: drained.filter(stays),
  });
  yield* publishSigned(group, kept, deadline);
  const { id, members, signature } = recordOf(group);
  return {
    id,
    publicKey: signature?.key ?? '',
    members: members.map(({ name, serial }) => ({ name, serial })),
    leftOut: without,
  };
}
