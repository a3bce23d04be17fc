import type { Attribute } from './attribute.js';
import type {
  ArgumentsOf,
  CallName,
  CipherOutput,
  FoundObject,
  MechanismInfo,
  ObjectRef,
  ReadAttribute,
  ResultOf,
  SlotInfo,
  TokenInfo,
} from './calls.js';
import { type Mechanism, writeMechanism } from './mechanism.js';
import type { Reader, Writer } from './wire.js';

type Write<T> = (writer: Writer, value: T) => void;
type Writes<A extends readonly unknown[]> = { readonly [K in keyof A]: Write<A[K]> };
type Read<T> = (reader: Reader) => T;

/** Codec of a call: its number (native/host/calls/calls.def), writers for the arguments and a reader for the result. */
interface CallCodec<C extends CallName> {
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
// A copy: a handle outlives its packet.
const handle: Read<Uint8Array> = (reader) => new Uint8Array(reader.raw(8));
const utf8: Read<string> = (reader) => reader.sized().toString('utf8');
/** Maximum number of slots or mechanisms: far above that of any library. */
const MOST_NUMBERS = 65_536;
const numbers: Read<number[]> = (reader) => reader.list((item) => item.u64(), MOST_NUMBERS);
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
  // Counts of open sessions are left out, since they are those of the host's process; so are the counts of memory.
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

/** Codecs of all calls. */
export const calls: { readonly [C in CallName]: CallCodec<C> } = {
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
  X_HoldClaim: { number: 90, arguments: [text], result: nothing },
  X_DropClaim: { number: 91, arguments: [text], result: nothing },
  X_UseTokenLock: { number: 92, arguments: [text, template], result: nothing },
};
