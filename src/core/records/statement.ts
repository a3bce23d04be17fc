import type { DomainNote, GroupRecord, MemberNote } from './record.js';

/** First element of every statement: a signature of another kind of text is none of a group record. */
const KIND = 'pkcs11-ha group record';

const none = null;

function memberStatement({ serial, name, id, modulus, publicExponent, transport }: MemberNote): unknown {
  return [serial, name, id ?? none, modulus, publicExponent, transport];
}

function domainStatement({ id, proofs, until }: DomainNote): unknown {
  const { digest, mac, signature, derive, checkValue } = proofs;
  return [id, [digest, mac, signature, derive, checkValue].map((proof) => proof ?? none), until ?? none];
}

/**
 * Returns what the administration key signs of a group record (Rule 19): all that decides for whom keys are wrapped, and
 * how. `filling`, `drained`, `gone`, `revision`, `time` and `writer` stay outside, since every process changes them.
 */
export function statementOf(record: GroupRecord): Uint8Array {
  const { id, label, format, sequence, salt, members, domain, retired, pending, scansKeyRecords, wrap } = record;
  const statement = [
    KIND,
    [id, label, format ?? none, sequence ?? 0, salt],
    members.map(memberStatement),
    domainStatement(domain),
    (retired ?? []).map(domainStatement),
    Object.entries(pending ?? {}).sort(([one], [other]) => (one < other ? -1 : 1)),
    [scansKeyRecords === true, wrap, record.wrapsOddLengths],
  ];
  return Buffer.from(JSON.stringify(statement));
}

/** Returns true if two records state the same, whatever their sequence is. */
export function stateTheSame(one: GroupRecord, other: GroupRecord): boolean {
  const text = (record: GroupRecord): Uint8Array => statementOf({ ...record, sequence: 0 });
  return Buffer.compare(text(one), text(other)) === 0;
}
