import type { Attribute } from '../../spec/attribute.js';
import { describedTypes, describeValues, identityOf } from './identity.js';
import type { NotedAttribute, ObjectNote, ProofKind } from './key-note.js';
import { VirtualObject } from './object.js';

/** Returns bytes as hexadecimal text. */
export const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');

/** Returns the bytes of a hexadecimal text. */
export const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));

/** Returns attributes in the form of records. */
export function noteAttributes(attributes: readonly Attribute[]): NotedAttribute[] {
  return attributes.map(({ type, value }) => [type, hex(value)]);
}

/** Returns the attributes that a record holds. */
export function attributesOf(noted: readonly NotedAttribute[]): Attribute[] {
  return noted.map(([type, value]) => ({ type, value: fromHex(value) }));
}

/** Returns proofs in the form of records. */
export function noteProofs(proofs: ReadonlyMap<ProofKind, Uint8Array>): ObjectNote['proofs'] {
  return Object.fromEntries([...proofs].map(([kind, proof]) => [kind, hex(proof)]));
}

/** Returns the proofs that a record holds. */
export function proofsIn(noted: ObjectNote['proofs']): Map<ProofKind, Uint8Array> {
  return new Map(Object.entries(noted).map(([kind, proof]) => [kind as ProofKind, fromHex(proof)]));
}

/** Returns the note of an object, whose `described` must be set. */
export function noteObject(object: VirtualObject): ObjectNote {
  return {
    handle: object.handle,
    ordinal: object.ordinal,
    described: object.described.map((value) => (value === undefined ? null : hex(value))),
    valueDigest: hex(object.valueDigest),
    use: object.use ?? null,
    proofs: noteProofs(object.reference),
  };
}

/** Makes an object from a note, outside the object table, for looking for it on members. */
export function objectOf(note: ObjectNote): VirtualObject {
  const described = describedTypes.map((_type, index) => {
    const value = note.described[index];
    return value === undefined || value === null ? undefined : fromHex(value);
  });
  const description = describeValues(described);
  const valueDigest = fromHex(note.valueDigest);
  const object = new VirtualObject(note.handle, identityOf(description, valueDigest), description, note.ordinal);
  object.described = described;
  object.valueDigest = valueDigest;
  object.use = note.use ?? undefined;
  for (const [kind, proof] of proofsIn(note.proofs)) object.reference.set(kind, proof);
  object.referenced = true;
  return object;
}
