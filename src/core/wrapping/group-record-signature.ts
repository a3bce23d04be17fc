import { CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import { awaitCompletion } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { GroupRecord } from '../records/record.js';
import { statementOf, stateTheSame } from '../records/statement.js';

/**
 * Signs a group record with the administration key. Throws CKR_ACTION_PROHIBITED if this process cannot use the key,
 * CKR_FUNCTION_CANCELED if the deadline passes before.
 */
export function* sign(group: Group, record: GroupRecord, deadline: number): Task<GroupRecord> {
  const { port } = group;
  const signing = port.authority.sign(record.id, statementOf(record));
  yield* awaitCompletion(port, signing, deadline);
  const { signature, problem } = signing;
  if (signature === undefined && !signing.completed)
    refuse(CKR.functionCanceled, "the deadline passed before the group's record was signed");
  if (signature === undefined) refuse(CKR.actionProhibited, problem);
  return { ...record, signature };
}

/**
 * Returns a changed group record with a signature: with that of the former record if both state the same, else with a
 * new one. The record of a group that nobody has signed stays unsigned.
 */
export function* withSignature(
  group: Group,
  former: GroupRecord,
  record: GroupRecord,
  deadline: number,
): Task<GroupRecord> {
  const { sequence, signature } = former;
  if (stateTheSame(former, record)) return { ...record, sequence, signature };
  if (group.ledger.trust.of(former) === 'unsigned') {
    if (signature === undefined) return record;
    refuse(CKR.actionProhibited, unknownKey(signature.key));
  }
  return yield* sign(group, { ...record, sequence: (sequence ?? 0) + 1 }, deadline);
}

function unknownKey(key: string): string {
  return `the group's record is signed with the key ${key}, which is not in this configuration (administration.publicKey)`;
}

/**
 * Throws CKR_ACTION_PROHIBITED unless the administration key has signed the group's record: a record that others wrote
 * could name members of theirs, and keys would be wrapped for them (Rule 19).
 */
export function checkSigned({ ledger: { isSigned, record }, isBeingCreated }: Group): void {
  if (isSigned || isBeingCreated) return;
  const key = record?.signature?.key;
  refuse(
    CKR.actionProhibited,
    key === undefined ? "the group's record is not signed: sign it with `pkcs11-ha group sign`" : unknownKey(key),
  );
}

/** Throws CKR_ACTION_PROHIBITED unless this process can change what the administration key signs. */
export function checkMaySign(group: Group): void {
  checkSigned(group);
  const { record } = group.ledger;
  if (record === undefined || group.port.authority.canSign(record.id)) return;
  refuse(
    CKR.actionProhibited,
    'the private administration key is not on this host (administration.key): change the group where it is',
  );
}
