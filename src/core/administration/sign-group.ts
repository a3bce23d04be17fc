import { CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import { hex } from '../objects/note.js';
import { FIRST_FORMAT, FORMAT, type GroupRecord } from '../records/record.js';
import { statementOf, stateTheSame } from '../records/statement.js';
import { publishSigned } from '../wrapping/group-record-publication.js';
import { learnLatest } from '../wrapping/group-record-reading.js';
import { proveTransport } from '../wrapping/transport-proof.js';
import { recordOf, runClaimed, servingMembersOf } from './membership.js';

/** Reason for not signing a record that is not the one that was looked at. */
const CHANGED = 'the group record has changed meanwhile: look at it again, and sign then';

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

/** Order of an operator to sign a record. */
export interface SigningOrder {
  /** Names of members that are left out of the record. */
  readonly without: readonly string[];
  /** Digest of the record that the operator has seen (see `digestOfStatement`); undefined: any record. */
  readonly seen: string | undefined;
}

/** Returns the digest of what a record states, in hexadecimal. */
export function digestOfStatement({ port }: Group, record: GroupRecord): string {
  return hex(port.sha256(statementOf(record)));
}

/**
 * Signs the record of a group that no key has signed, or whose key is lost. Each member that the record names must
 * serve, and prove that its token holds its transport key. Anybody with the PIN of a token can write a newer record
 * meanwhile: it is not signed.
 */
export function* signGroup(group: Group, order: SigningOrder, deadline: number): Task<SigningReport> {
  recordOf(group);
  return yield* runClaimed(group, deadline, () => signExclusively(group, order, deadline));
}

function* signExclusively(group: Group, { without, seen }: SigningOrder, deadline: number): Task<SigningReport> {
  yield* learnLatest(group, deadline);
  const record = recordOf(group);
  if (seen !== undefined && seen !== digestOfStatement(group, record)) refuse(CKR.actionProhibited, CHANGED);
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
  const serving = yield* servingMembersOf(group, rest, deadline);
  for (const [index, member] of serving.entries()) {
    const note = rest[index];
    const challenger = serving.find((other) => other !== member) ?? member;
    if (note !== undefined) yield* proveTransport(group, challenger, member, note, deadline);
  }
  const stays = (serial: string): boolean => rest.some((note) => note.serial === serial);
  const kept = (now: GroupRecord): Partial<GroupRecord> => {
    if (!stateTheSame(now, record)) refuse(CKR.actionProhibited, CHANGED);
    const { pending = {}, filling = [], drained = [] } = now;
    return {
      members: rest,
      pending: Object.fromEntries(Object.entries(pending).filter(([serial]) => stays(serial))),
      filling: filling.filter(stays),
      drained: drained.filter(stays),
    };
  };
  yield* publishWithKey(group, record.id, kept, deadline);
  const { id, members, signature } = recordOf(group);
  return {
    id,
    publicKey: signature?.key ?? '',
    members: members.map(({ name, serial }) => ({ name, serial })),
    leftOut: without,
  };
}

/** Publishes the signed record; a key that this account keeps for the group from now on goes if that fails. */
function* publishWithKey(
  group: Group,
  id: string,
  change: (record: GroupRecord) => Partial<GroupRecord>,
  deadline: number,
): Task<void> {
  const { authority } = group.port;
  const isNew = !authority.canSign(id);
  const problem = isNew ? authority.prepare(id) : undefined;
  if (problem !== undefined) refuse(CKR.actionProhibited, problem);
  try {
    yield* publishSigned(group, change, deadline);
  } catch (error) {
    // With the key alone this account would refuse the record, which is not signed.
    if (isNew && recordOf(group).signature === undefined) authority.discard(id);
    throw error;
  }
}
