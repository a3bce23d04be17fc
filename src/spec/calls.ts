import type { Attribute } from './attribute.js';
import type { Mechanism } from './mechanism.js';

/** Maximum of X_Find that sets no limit (number of objects). */
export const NO_MAXIMUM = 0x7fff_ffff;

/**
 * Object on a member: a real handle of eight bytes, or the object that an earlier step made or found. If that step made
 * a key pair, the object is the public key, or with `second` the private key.
 */
export type ObjectRef = Uint8Array | { readonly step: number; readonly second?: boolean };

/** Attribute as the host read it. `sensitive`: the token does not reveal it. `invalid`: the object does not have it. */
export interface ReadAttribute {
  readonly presence: 'present' | 'sensitive' | 'invalid';
  readonly value: Buffer;
}

/** Object that a host found, with its real handle and the attributes that were asked for. */
export interface FoundObject {
  readonly handle: Uint8Array;
  readonly attributes: readonly ReadAttribute[];
}

/** Information about a token (CK_TOKEN_INFO); texts without padding, versions as `major.minor`. */
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
  /** Time of the token's clock as `YYYYMMDDhhmmss00`; only valid if the token has a clock (CKF_CLOCK_ON_TOKEN). */
  readonly utcTime: string;
}

/** Information about a slot (CK_SLOT_INFO). */
export interface SlotInfo {
  readonly description: string;
  readonly manufacturerID: string;
  readonly flags: number;
  readonly hardwareVersion: string;
  readonly firmwareVersion: string;
}

/**
 * Information about a mechanism: key sizes in bits or bytes, as the mechanism counts (PKCS#11 2.40, section 3.5), and
 * flags.
 */
export interface MechanismInfo {
  readonly shortestKey: number;
  readonly longestKey: number;
  readonly flags: number;
}

/**
 * Output of a cipher, and the bytes that the token wrote to the mechanism's parameter, one entry a `returned` field.
 */
export interface CipherOutput {
  readonly output: Buffer;
  readonly returned: readonly Buffer[];
}

/** Arguments and result of each call. PINs are no arguments: the channel appends them from guarded memory. */
interface CallShapes {
  /** Loads and initializes the module; returns the text of the problem, even if the call fails. */
  X_Load: (path: string, reserved: string) => string;
  /** Opens the session that keeps the login on a slot, and sets the number of lanes. */
  X_Attach: (slot: number, lanes: number) => undefined;
  /** Finds at most `most` objects and reads attributes of each. */
  X_Find: (template: readonly Attribute[], most: number, types: readonly number[]) => FoundObject[];
  /** Finds objects without CKA_CLASS, and objects that are not known to be token objects; returns their handles. */
  X_FindHollow: () => Uint8Array[];
  /** Sets whether the threads of the host, when they wake, leave the processor to running threads. */
  X_GiveWay: (gives: boolean) => undefined;
  /** Runs the following steps on the session held under that number: a new session, or that of an earlier job. */
  X_Hold: (number: number, isNew: boolean) => undefined;
  /** Gives back the session held under that number. */
  X_Release: (number: number) => undefined;
  /**
   * Makes the host hold a claim too: a shared lock on byte 1 of the file at `path`. The host holds the lock until
   * X_DropClaim, the claim's expiry or the host's end. Does nothing if the host holds the claim already. The file
   * begins with the time of expiry: eight bytes, little-endian, ns of CLOCK_BOOTTIME, 0 for never. The application
   * writes it before this call, and again before the expiry to renew the claim. A long write in progress delays the
   * expiry. Answers CKR_FUNCTION_FAILED if the file cannot be opened or locked, CKR_HOST_MEMORY if the host holds 256
   * claims.
   */
  X_HoldClaim: (path: string) => undefined;
  /** Makes the host give up its part of a claim, if it holds the claim. */
  X_DropClaim: (path: string) => undefined;
  /**
   * Makes jobs that write hold a lock on byte 0 of the file at `path`, and look at the token first. `lasting` finds an
   * object that stays on the token. Answers CKR_FUNCTION_FAILED if the file cannot be opened.
   */
  X_UseTokenLock: (path: string, lasting: readonly Attribute[]) => undefined;
  /** Runs C_Login with CKU_CONTEXT_SPECIFIC for the active operation; the job's secret is the PIN. */
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
  /** Changes the PIN (section 5.5): last step of an `onLoginSession` job, whose secret is both PINs, joined. */
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

/** Name of a call: a function of PKCS#11, or with X_ a function of the host. */
export type CallName = keyof CallShapes;
/** Arguments of a call. */
export type ArgumentsOf<C extends CallName> = Parameters<CallShapes[C]>;
/** Result of a call. */
export type ResultOf<C extends CallName> = ReturnType<CallShapes[C]>;

/** Mechanisms of a token by number (CKM_*). */
export type MechanismTable = ReadonlyMap<number, MechanismInfo>;
