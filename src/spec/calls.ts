import type { Attribute } from './attribute.js';
import { type Mechanism, writeMechanism } from './mechanism.js';
import type { Reader, Writer } from './wire.js';

/**
 * An object on a member: its real handle as eight bytes, or the object that an earlier step made or found; of a
 * key pair the public key, or the `second`, its private key.
 */
export type ObjectRef = Uint8Array | { readonly step: number; readonly second?: boolean };

/** An attribute as the host read it. */
export interface ReadAttribute {
  readonly presence: 'present' | 'sensitive' | 'invalid';
  readonly value: Buffer;
}

export interface FoundObject {
  readonly handle: Uint8Array;
  readonly attributes: readonly ReadAttribute[];
}

export interface TokenInfo {
  readonly label: string;
  readonly manufacturerID: string;
  readonly model: string;
  readonly serialNumber: string;
  readonly flags: number;
  readonly maxSessionCount: number;
  readonly maxRwSessionCount: number;
  readonly longestPin: number;
  readonly shortestPin: number;
  readonly hardwareVersion: string;
  readonly firmwareVersion: string;
  /** `YYYYMMDDhhmmss00`, where the token has a clock. */
  readonly utcTime: string;
}

export interface SlotInfo {
  readonly description: string;
  readonly manufacturerID: string;
  readonly flags: number;
  readonly hardwareVersion: string;
  readonly firmwareVersion: string;
}

/** Key sizes are in bits or bytes, as the mechanism counts them (PKCS#11 2.40, section 3.5). */
export interface MechanismInfo {
  readonly shortestKey: number;
  readonly longestKey: number;
  readonly flags: number;
}

/** The output of a cipher, and what the token wrote to the mechanism's parameter. */
export interface CipherOutput {
  readonly output: Buffer;
  readonly returned: readonly Buffer[];
}

type Write<T> = (writer: Writer, value: T) => void;
type Writes<A extends readonly unknown[]> = { readonly [K in keyof A]: Write<A[K]> };
type Read<T> = (reader: Reader) => T;

/**
 * What each call takes and gives. PINs are not here: the channel appends them from guarded memory.
 */
export interface CallShapes {
  X_Load: (path: string, reserved: string) => string;
  X_Attach: (slot: number, lanes: number) => undefined;
  X_Find: (template: readonly Attribute[], most: number, types: readonly number[]) => FoundObject[];
  /** The handles of objects that do not say what they are, or that they are the token's. */
  X_FindHollow: () => Uint8Array[];
  /** Whether the host's threads give way to whoever runs on the machine when they wake. */
  X_GiveWay: (gives: boolean) => undefined;
  /** The steps after it run on a session that is held under that number: a new one, or that of an earlier job. */
  X_Hold: (number: number, isNew: boolean) => undefined;
  X_Release: (number: number) => undefined;
  /** C_Login with CKU_CONTEXT_SPECIFIC, for the operation that was begun; the job's secret is the PIN. */
  X_LogInAgain: (pinLength: number) => undefined;
  C_Finalize: () => undefined;
  C_GetSlotList: (present: boolean) => number[];
  C_GetSlotInfo: (slot: number) => SlotInfo;
  C_GetTokenInfo: (slot: number) => TokenInfo;
  C_GetMechanismList: (slot: number) => number[];
  C_GetMechanismInfo: (slot: number, mechanism: number) => MechanismInfo;
  C_OpenSession: () => undefined;
  C_GetSessionInfo: () => { slot: number; state: number; flags: number; deviceError: number };
  C_Login: (user: number, pinLength: number) => undefined;
  /** Section 5.5, on the anchor session: as the last step of an `onLoginSession` job, whose secret is both PINs, joined. */
  C_SetPIN: (oldLength: number, newLength: number) => undefined;
  C_GetAttributeValue: (object: ObjectRef, types: readonly number[]) => ReadAttribute[];
  C_CreateObject: (template: readonly Attribute[]) => Uint8Array;
  C_DestroyObject: (object: ObjectRef) => undefined;
  C_CopyObject: (object: ObjectRef, template: readonly Attribute[]) => Uint8Array;
  C_SetAttributeValue: (object: ObjectRef, template: readonly Attribute[]) => undefined;
  C_GetObjectSize: (object: ObjectRef) => number;
  C_EncryptInit: (mechanism: Mechanism, key: ObjectRef) => undefined;
  C_Encrypt: (data: Uint8Array) => CipherOutput;
  C_EncryptUpdate: (data: Uint8Array) => CipherOutput;
  C_EncryptFinal: () => CipherOutput;
  C_DecryptInit: (mechanism: Mechanism, key: ObjectRef) => undefined;
  C_Decrypt: (data: Uint8Array) => CipherOutput;
  C_DecryptUpdate: (data: Uint8Array) => CipherOutput;
  C_DecryptFinal: () => CipherOutput;
  C_DigestInit: (mechanism: Mechanism) => undefined;
  C_Digest: (data: Uint8Array) => Buffer;
  C_DigestUpdate: (data: Uint8Array) => undefined;
  C_DigestKey: (key: ObjectRef) => undefined;
  C_DigestFinal: () => Buffer;
  C_SignInit: (mechanism: Mechanism, key: ObjectRef) => undefined;
  C_Sign: (data: Uint8Array) => Buffer;
  C_SignUpdate: (data: Uint8Array) => undefined;
  C_SignFinal: () => Buffer;
  C_SignRecoverInit: (mechanism: Mechanism, key: ObjectRef) => undefined;
  C_SignRecover: (data: Uint8Array) => Buffer;
  C_VerifyInit: (mechanism: Mechanism, key: ObjectRef) => undefined;
  C_Verify: (data: Uint8Array, signature: Uint8Array) => undefined;
  C_VerifyUpdate: (data: Uint8Array) => undefined;
  C_VerifyFinal: (signature: Uint8Array) => undefined;
  C_VerifyRecoverInit: (mechanism: Mechanism, key: ObjectRef) => undefined;
  C_VerifyRecover: (signature: Uint8Array) => Buffer;
  C_DeriveKey: (mechanism: Mechanism, base: ObjectRef, template: readonly Attribute[]) => Uint8Array;
  C_GenerateRandom: (size: number) => Buffer;
  C_SeedRandom: (seed: Uint8Array) => undefined;
  C_GenerateKey: (mechanism: Mechanism, template: readonly Attribute[]) => Uint8Array;
  C_GenerateKeyPair: (
    mechanism: Mechanism,
    publicTemplate: readonly Attribute[],
    privateTemplate: readonly Attribute[],
  ) => { publicKey: Uint8Array; privateKey: Uint8Array };
  C_WrapKey: (mechanism: Mechanism, wrapping: ObjectRef, key: ObjectRef) => Buffer;
  C_UnwrapKey: (
    mechanism: Mechanism,
    unwrapping: ObjectRef,
    wrapped: Uint8Array,
    template: readonly Attribute[],
  ) => Uint8Array;
}

export type CallName = keyof CallShapes;
export type ArgumentsOf<C extends CallName> = Parameters<CallShapes[C]>;
export type ResultOf<C extends CallName> = ReturnType<CallShapes[C]>;

/** How a call travels: its number (native/host/calls.def), its arguments and its result. */
export interface CallDefinition<C extends CallName> {
  readonly number: number;
  readonly arguments: Writes<ArgumentsOf<C>>;
  readonly result: Read<ResultOf<C>>;
}

const u32: Write<number> = (writer, value) => writer.u32(value);
const u64: Write<number> = (writer, value) => writer.u64(value);
const flag: Write<boolean> = (writer, value) => writer.u8(value ? 1 : 0);
const text: Write<string> = (writer, value) => writer.text(value);
const bytes: Write<Uint8Array> = (writer, value) => writer.sized(value);
const types: Write<readonly number[]> = (writer, value) => {
  writer.u32(value.length);
  for (const type of value) writer.u64(type);
};
const template: Write<readonly Attribute[]> = (writer, value) => {
  writer.u32(value.length);
  for (const attribute of value) {
    writer.u64(attribute.type);
    writer.u32(attribute.value.length + (attribute.secretLength ?? 0));
    writer.raw(attribute.value);
  }
};
const mechanism: Write<Mechanism> = writeMechanism;
const object: Write<ObjectRef> = (writer, value) => {
  if (value instanceof Uint8Array) {
    writer.u8(0);
    writer.raw(value);
  } else {
    writer.u8(value.second === true ? 2 : 1);
    writer.u64(value.step);
  }
};

const nothing: Read<undefined> = () => undefined;
const sized: Read<Buffer> = (reader) => reader.sized();
// Copied: a handle is kept for long, the packet it came in is not.
const handle: Read<Uint8Array> = (reader) => new Uint8Array(reader.raw(8));
const utf8: Read<string> = (reader) => reader.sized().toString('utf8');
const numbers: Read<number[]> = (reader) => reader.list((item) => item.u64());
const version: Read<string> = (reader) => `${reader.u8()}.${reader.u8()}`;
const presences = ['present', 'sensitive', 'invalid'] as const;
const attributes: Read<ReadAttribute[]> = (reader) =>
  reader.list((item) => ({ presence: presences[item.u8()] ?? 'invalid', value: item.sized() }));
const cipher: Read<CipherOutput> = (reader) => ({
  output: reader.sized(),
  returned: reader.list((item) => item.sized()),
});

const found: Read<FoundObject[]> = (reader) =>
  reader.list((item) => ({ handle: handle(item), attributes: attributes(item) }));

const tokenInfo: Read<TokenInfo> = (reader) => {
  const label = reader.paddedText();
  const manufacturerID = reader.paddedText();
  const model = reader.paddedText();
  const serialNumber = reader.paddedText();
  // The session counts in between are this process's own, and of memory nobody has asked yet.
  const [flags = 0, maxSessionCount = 0, , maxRwSessionCount = 0, , longestPin = 0, shortestPin = 0] = Array.from(
    { length: 11 },
    () => reader.u64(),
  );
  const hardwareVersion = version(reader);
  const firmwareVersion = version(reader);
  const utcTime = reader.paddedText();
  return {
    label,
    manufacturerID,
    model,
    serialNumber,
    flags,
    maxSessionCount,
    maxRwSessionCount,
    longestPin,
    shortestPin,
    hardwareVersion,
    firmwareVersion,
    utcTime,
  };
};

const slotInfo: Read<SlotInfo> = (reader) => ({
  description: reader.paddedText(),
  manufacturerID: reader.paddedText(),
  flags: reader.u64(),
  hardwareVersion: version(reader),
  firmwareVersion: version(reader),
});

const mechanismInfo: Read<MechanismInfo> = (reader) => ({
  shortestKey: reader.u64(),
  longestKey: reader.u64(),
  flags: reader.u64(),
});

const sessionInfo: Read<{ slot: number; state: number; flags: number; deviceError: number }> = (reader) => ({
  slot: reader.u64(),
  state: reader.u64(),
  flags: reader.u64(),
  deviceError: reader.u64(),
});

/** Every call of a job. */
export const calls: { readonly [C in CallName]: CallDefinition<C> } = {
  X_Load: { number: 1, arguments: [text, text], result: utf8 },
  X_Attach: { number: 2, arguments: [u64, u32], result: nothing },
  X_Find: { number: 3, arguments: [template, u32, types], result: found },
  X_FindHollow: { number: 4, arguments: [], result: (reader) => reader.list(handle) },
  X_GiveWay: { number: 5, arguments: [flag], result: nothing },
  X_Hold: { number: 6, arguments: [u64, flag], result: nothing },
  X_Release: { number: 7, arguments: [u64], result: nothing },
  X_LogInAgain: { number: 8, arguments: [u32], result: nothing },
  C_Finalize: { number: 10, arguments: [], result: nothing },
  C_GetSlotList: { number: 12, arguments: [flag], result: numbers },
  C_GetSlotInfo: { number: 13, arguments: [u64], result: slotInfo },
  C_GetTokenInfo: { number: 14, arguments: [u64], result: tokenInfo },
  C_GetMechanismList: { number: 15, arguments: [u64], result: numbers },
  C_GetMechanismInfo: { number: 16, arguments: [u64, u64], result: mechanismInfo },
  C_OpenSession: { number: 17, arguments: [], result: nothing },
  C_GetSessionInfo: { number: 18, arguments: [], result: sessionInfo },
  C_Login: { number: 19, arguments: [u64, u32], result: nothing },
  C_SetPIN: { number: 20, arguments: [u32, u32], result: nothing },
  C_GetAttributeValue: { number: 30, arguments: [object, types], result: attributes },
  C_CreateObject: { number: 31, arguments: [template], result: handle },
  C_DestroyObject: { number: 32, arguments: [object], result: nothing },
  C_CopyObject: { number: 33, arguments: [object, template], result: handle },
  C_SetAttributeValue: { number: 34, arguments: [object, template], result: nothing },
  C_GetObjectSize: { number: 35, arguments: [object], result: (reader) => reader.u64() },
  C_EncryptInit: { number: 40, arguments: [mechanism, object], result: nothing },
  C_Encrypt: { number: 41, arguments: [bytes], result: cipher },
  C_DecryptInit: { number: 42, arguments: [mechanism, object], result: nothing },
  C_Decrypt: { number: 43, arguments: [bytes], result: cipher },
  C_EncryptUpdate: { number: 44, arguments: [bytes], result: cipher },
  C_EncryptFinal: { number: 45, arguments: [], result: cipher },
  C_DecryptUpdate: { number: 46, arguments: [bytes], result: cipher },
  C_DecryptFinal: { number: 47, arguments: [], result: cipher },
  C_DigestInit: { number: 50, arguments: [mechanism], result: nothing },
  C_Digest: { number: 51, arguments: [bytes], result: sized },
  C_DigestUpdate: { number: 52, arguments: [bytes], result: nothing },
  C_DigestKey: { number: 53, arguments: [object], result: nothing },
  C_DigestFinal: { number: 54, arguments: [], result: sized },
  C_SignInit: { number: 60, arguments: [mechanism, object], result: nothing },
  C_Sign: { number: 61, arguments: [bytes], result: sized },
  C_VerifyInit: { number: 62, arguments: [mechanism, object], result: nothing },
  C_Verify: { number: 63, arguments: [bytes, bytes], result: nothing },
  C_SignUpdate: { number: 64, arguments: [bytes], result: nothing },
  C_SignFinal: { number: 65, arguments: [], result: sized },
  C_VerifyUpdate: { number: 66, arguments: [bytes], result: nothing },
  C_VerifyFinal: { number: 67, arguments: [bytes], result: nothing },
  C_SignRecoverInit: { number: 68, arguments: [mechanism, object], result: nothing },
  C_SignRecover: { number: 69, arguments: [bytes], result: sized },
  C_DeriveKey: { number: 70, arguments: [mechanism, object, template], result: handle },
  C_GenerateRandom: { number: 71, arguments: [u32], result: sized },
  C_GenerateKey: { number: 72, arguments: [mechanism, template], result: handle },
  C_GenerateKeyPair: {
    number: 73,
    arguments: [mechanism, template, template],
    result: (reader) => ({ publicKey: handle(reader), privateKey: handle(reader) }),
  },
  C_WrapKey: { number: 74, arguments: [mechanism, object, object], result: sized },
  C_UnwrapKey: { number: 75, arguments: [mechanism, object, bytes, template], result: handle },
  C_SeedRandom: { number: 76, arguments: [bytes], result: nothing },
  C_VerifyRecoverInit: { number: 80, arguments: [mechanism, object], result: nothing },
  C_VerifyRecover: { number: 81, arguments: [bytes], result: sized },
};

/** The mechanisms of a token by their numbers. */
export type MechanismTable = ReadonlyMap<number, MechanismInfo>;
