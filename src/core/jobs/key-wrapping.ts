import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import type { ObjectRef } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import { type JobReply, optional, resultOf, step } from '../../spec/job.js';
import { encodeMechanism, type Mechanism } from '../../spec/mechanism.js';
import { CKR_OK } from '../../spec/verdict.js';
import type { Wrapped } from '../objects/key-note.js';
import { fromHex, hex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { Ledger } from '../records/ledger.js';
import type { GroupRecord, MemberNote } from '../records/record.js';
import { inSession, type JobBuilder } from './job-builder.js';

const yes = Uint8Array.of(1);

/** SHA-1 is all that every token has for it; nothing hangs on its resistance to collisions here. */
export const oaep: Mechanism = encodeMechanism('transport', {
  name: 'RSA_PKCS_OAEP',
  params: { hash: 'SHA_1', mgf: 1, source: 1 },
});

/** A member's transport key as a session object that wraps. */
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
 * What the record has for `wrap` where no mechanism wraps keys under the domain key: each travels for each member under
 * its transport key, which takes secret keys only.
 */
export const forEachMember: number = oaep.type;

/** Which way a secret of that length has to travel; of an unknown length it may be odd. */
export function wrapMethodFor(
  record: GroupRecord,
  isGeneric: boolean,
  length: number | undefined,
): 'domain' | 'transports' {
  if (record.wrap === forEachMember) return 'transports';
  if (!isGeneric || record.wrapsOddLengths) return 'domain';
  return length !== undefined && length % 8 === 0 ? 'domain' : 'transports';
}

export function wrapMechanism(record: Pick<GroupRecord, 'wrap'>): Mechanism {
  return { type: record.wrap, fields: [] };
}

/** Adds the steps that wrap a key for all members; gives what reads the result. They may fail without harm. */
export function addWrapping(
  builder: JobBuilder,
  record: GroupRecord,
  way: 'domain' | 'transports',
  domain: ObjectRef,
  key: ObjectRef,
): (reply: JobReply) => Wrapped | undefined {
  if (way === 'domain') {
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

/** What a member needs to take a wrapped key in; undefined when it was not wrapped for it. */
export interface UnwrapInputs {
  readonly mechanism: Mechanism;
  /** The key of ours that unwraps it there. */
  readonly key: VirtualObject;
  readonly blob: Uint8Array;
}

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
