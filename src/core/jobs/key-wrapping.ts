import { type Attribute, ulongBytes, ulongOf } from '../../spec/attribute.js';
import type { ObjectRef } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import { type JobReply, optional, resultOf, step } from '../../spec/job.js';
import { encodeMechanism, type Mechanism } from '../../spec/mechanism.js';
import { CKR_OK } from '../../spec/verdict.js';
import type { Description } from '../objects/identity.js';
import type { Wrapped } from '../objects/key-note.js';
import { fromHex, hex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { Ledger } from '../records/ledger.js';
import type { GroupRecord, MemberNote } from '../records/record.js';
import { inSession, type JobBuilder } from './job-builder.js';

const yes = Uint8Array.of(1);

/** RSA-OAEP with SHA-1, the only hash that every token offers; OAEP does not depend on its collision resistance. */
export const oaep: Mechanism = encodeMechanism('transport', {
  name: 'RSA_PKCS_OAEP',
  params: { hash: 'SHA_1', mgf: 1, source: 1 },
});

/** Template of a member's public transport key as a session object that wraps. */
export function transportTemplate({ modulus, publicExponent }: MemberNote): readonly Attribute[] {
  return [
    { type: CKA.class, value: ulongBytes(CKO.publicKey) },
    { type: CKA.keyType, value: ulongBytes(CKK.rsa) },
    inSession,
    { type: CKA.modulus, value: fromHex(modulus) },
    { type: CKA.publicExponent, value: fromHex(publicExponent) },
    { type: CKA.wrap, value: yes },
    { type: CKA.encrypt, value: yes },
    { type: CKA.verify, value: yes },
  ];
}

/**
 * Value of the group record's `wrap` if no mechanism wraps keys under the domain key: every key is wrapped for each
 * member under its transport key, which takes secret keys only.
 */
export const forEachMember: number = oaep.type;

/** Way to wrap a key: under the domain key, or for each member under its transport key. */
export type WrapMethod = 'domain' | 'transports';

/** Returns the way to wrap a key; `length` of a generic secret (bytes) is undefined if unknown, and may be odd then. */
export function wrapMethodFor(record: GroupRecord, isGeneric: boolean, length: number | undefined): WrapMethod {
  if (record.wrap === forEachMember) return 'transports';
  if (!isGeneric || record.wrapsOddLengths) return 'domain';
  return length !== undefined && length % 8 === 0 ? 'domain' : 'transports';
}

/** Returns the way to wrap a key that exists; `valueLen` is its CKA_VALUE_LEN as the token gave it. */
export function wrapMethodOf(
  record: GroupRecord,
  { class: objectClass, type }: Description,
  valueLen: Uint8Array | undefined,
): WrapMethod {
  const isGeneric = objectClass === CKO.secretKey && type === CKK.genericSecret;
  const length = valueLen === undefined ? 0 : ulongOf(valueLen);
  return wrapMethodFor(record, isGeneric, length > 0 ? length : undefined);
}

/** Returns the mechanism that wraps keys under the domain key. */
export function wrapMechanism(record: Pick<GroupRecord, 'wrap'>): Mechanism {
  return { type: record.wrap, fields: [] };
}

/** Adds optional steps that wrap a key for all members; returns the function that reads the result from the reply. */
export function addWrapping(
  builder: JobBuilder,
  record: GroupRecord,
  method: WrapMethod,
  domain: ObjectRef,
  key: ObjectRef,
): (reply: JobReply) => Wrapped | undefined {
  if (method === 'domain') {
    const at = builder.add(optional(step('C_WrapKey', wrapMechanism(record), domain, key)));
    return (reply) =>
      reply.results[at]?.code === CKR_OK
        ? { domain: record.domain.id, blob: hex(resultOf(reply, at, 'C_WrapKey')) }
        : undefined;
  }
  const wraps = record.members.map((member) => {
    const made = builder.add(step('C_CreateObject', transportTemplate(member)));
    const at = builder.add(optional(step('C_WrapKey', oaep, { step: made }, key)));
    builder.add(step('C_DestroyObject', { step: made }));
    return { serial: member.serial, at };
  });
  return (reply) => {
    if (wraps.some(({ at }) => reply.results[at]?.code !== CKR_OK)) return undefined;
    return {
      transports: Object.fromEntries(wraps.map(({ serial, at }) => [serial, hex(resultOf(reply, at, 'C_WrapKey'))])),
    };
  };
}

/** Mechanism, key and bytes with which a member unwraps a key. */
export interface UnwrapInputs {
  readonly mechanism: Mechanism;
  /** Domain key or private transport key. */
  readonly key: VirtualObject;
  readonly blob: Uint8Array;
}

/** Returns the inputs for the member of that serial; undefined if the key was not wrapped for it. */
export function unwrapInputsOf(ledger: Ledger, wrapped: Wrapped, serial: string | undefined): UnwrapInputs | undefined {
  const { record } = ledger;
  if (record === undefined || serial === undefined) return undefined;
  if ('domain' in wrapped) {
    const under = ledger.domains.get(wrapped.domain);
    if (under === undefined) return undefined;
    return { mechanism: wrapMechanism(record), key: under, blob: fromHex(wrapped.blob) };
  }
  const blob = wrapped.transports[serial];
  const key = ledger.transports.get(serial);
  return blob === undefined || key === undefined ? undefined : { mechanism: oaep, key, blob: fromHex(blob) };
}
