import { ulongBytes } from '../../spec/attribute.js';
import type { CallName, ObjectRef, ResultOf } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import { type JobReply, resultOf, type Step, step } from '../../spec/job.js';
import { encodeMechanism, type Mechanism } from '../../spec/mechanism.js';
import { CKR_OK } from '../../spec/verdict.js';
import type { PublicMaterial } from '../base/port.js';
import type { Description } from '../objects/identity.js';
import type { ProofKind } from '../objects/key-note.js';

/** Length of a proof (bytes): enough to tell keys apart; records hold no whole digest or MAC of a key. */
const PROOF_LENGTH = 16;

const digest = encodeMechanism('proof', 'SHA256');
const hmac = encodeMechanism('proof', 'SHA256_HMAC');
const aesEcb = encodeMechanism('proof', 'AES_ECB');
const des3Ecb = encodeMechanism('proof', 'DES3_ECB');
const ecdsa = encodeMechanism('proof', 'ECDSA');
const dsa = encodeMechanism('proof', 'DSA');
const eddsa = encodeMechanism('proof', 'EDDSA');

const statefulTypes: ReadonlySet<number> = new Set([CKK.hss, CKK.xmss, CKK.xmssmt]);

/** Base points of P-256, P-384 and P-521 by the DER of the curve's object identifier: fixed peers of a derivation. */
const basePoints: ReadonlyMap<string, string> = new Map([
  [
    '06082a8648ce3d030107',
    '046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5',
  ],
  [
    '06052b81040022',
    '04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab73617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f',
  ],
  [
    '06052b81040023',
    '0400c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650',
  ],
]);

/** Way to prove which key a replica is. */
export interface Prover {
  readonly kind: ProofKind;
  /** Returns the steps that ask the token; `first` is the index of the first of them in its job. */
  readonly steps: (key: ObjectRef, first: number) => readonly Step[];
  /** Returns the proof from the reply; empty if the token could not give it. */
  readonly read: (reply: JobReply, first: number) => Uint8Array;
}

const nothing = new Uint8Array();

/** Returns the value of a step; undefined if it failed. */
function answerOf<C extends CallName>(reply: JobReply, index: number, call: C): ResultOf<C> | undefined {
  return reply.results[index]?.code === CKR_OK ? resultOf(reply, index, call) : undefined;
}

function truncated(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.subarray(0, PROOF_LENGTH));
}

/** Returns the digest of a C_DigestFinal; nothing if a step before it failed, since the digest is then of less. */
function digestIn(reply: JobReply, first: number, before: number): Uint8Array {
  const isWhole = reply.results.slice(first, first + before).every(({ code }) => code === CKR_OK);
  return isWhole ? truncated(answerOf(reply, first + before, 'C_DigestFinal') ?? nothing) : nothing;
}

/** Prover by the digest of the group's salt and the key (C_DigestKey), which needs no usage flag. */
function digestProver(salt: Uint8Array): Prover {
  return {
    kind: 'digest',
    steps: (key) => [
      step('C_DigestInit', digest),
      step('C_DigestUpdate', salt),
      step('C_DigestKey', key),
      step('C_DigestFinal'),
    ],
    read: (reply, first) => digestIn(reply, first, 3),
  };
}

/** Prover that encrypts or authenticates the salt; the salt is a hash, so never all zeros (GCM's hash key). */
function macProver(description: Description, salt: Uint8Array): Prover | undefined {
  if (description.type === CKK.aes || description.type === CKK.des3) {
    if (!description.encrypts) return undefined;
    const [mechanism, size] = description.type === CKK.aes ? [aesEcb, 16] : [des3Ecb, 8];
    return {
      kind: 'mac',
      steps: (key) => [step('C_EncryptInit', mechanism, key), step('C_Encrypt', salt.subarray(0, size))],
      read: (reply, first) => truncated(answerOf(reply, first + 1, 'C_Encrypt')?.output ?? nothing),
    };
  }
  if (!description.signs) return undefined;
  return {
    kind: 'mac',
    steps: (key) => [step('C_SignInit', hmac, key), step('C_Sign', salt)],
    read: (reply, first) => truncated(answerOf(reply, first + 1, 'C_Sign') ?? nothing),
  };
}

const derivedTemplate = [
  { type: CKA.class, value: ulongBytes(CKO.secretKey) },
  { type: CKA.keyType, value: ulongBytes(CKK.genericSecret) },
  { type: CKA.token, value: Uint8Array.of(0) },
  { type: CKA.sensitive, value: Uint8Array.of(1) },
  { type: CKA.extractable, value: Uint8Array.of(0) },
  { type: CKA.valueLen, value: ulongBytes(32) },
];

/** Returns the derivation with a fixed peer: the base point for EC keys, the base for DH keys. */
function derivationOf(description: Description): Mechanism | undefined {
  if (!description.derives) return undefined;
  if (description.type === CKK.dh && description.base.length > 0) {
    return encodeMechanism('proof', { name: 'DH_PKCS_DERIVE', params: description.base });
  }
  const point = basePoints.get(Buffer.from(description.ecParams).toString('hex'));
  if (point === undefined) return undefined;
  return encodeMechanism('proof', {
    name: 'ECDH1_DERIVE',
    params: { kdf: 'NULL', publicData: Buffer.from(point, 'hex') },
  });
}

/** Prover by the digest of the secret that the key derives with a fixed peer. */
function deriveProver(description: Description, salt: Uint8Array): Prover | undefined {
  const mechanism = derivationOf(description);
  if (mechanism === undefined) return undefined;
  return {
    kind: 'derive',
    steps: (key, first) => [
      step('C_DeriveKey', mechanism, key, derivedTemplate),
      step('C_DigestInit', digest),
      step('C_DigestUpdate', salt),
      step('C_DigestKey', { step: first }),
      step('C_DigestFinal'),
      step('C_DestroyObject', { step: first }),
    ],
    read: (reply, first) => digestIn(reply, first, 4),
  };
}

const signers: ReadonlyMap<number, Mechanism> = new Map([
  [CKK.ec, ecdsa],
  [CKK.dsa, dsa],
  [CKK.ecEdwards, eddsa],
]);

/**
 * Prover that signs `message` (its SHA-256, except for Edwards keys); undefined if the key cannot sign. The signature
 * is checked with the public key, not compared.
 */
export function signatureProver(
  description: Description,
  message: Uint8Array,
  sha256: (bytes: Uint8Array) => Uint8Array,
): Prover | undefined {
  const mechanism = signers.get(description.type);
  if (description.class !== CKO.privateKey || !description.signs || mechanism === undefined) return undefined;
  const signed = description.type === CKK.ecEdwards ? message : sha256(message);
  return {
    kind: 'signature',
    steps: (key) => [step('C_SignInit', mechanism, key), step('C_Sign', signed)],
    read: (reply, first) => new Uint8Array(answerOf(reply, first + 1, 'C_Sign') ?? nothing),
  };
}

/** Prover by CKA_CHECK_VALUE. It can only disprove: tokens compute it differently, or let it be set. */
const checkValueProver: Prover = {
  kind: 'checkValue',
  steps: (key) => [step('C_GetAttributeValue', key, [CKA.checkValue])],
  read: (reply, first) => {
    const value = answerOf(reply, first, 'C_GetAttributeValue')?.[0];
    return value?.presence === 'present' ? new Uint8Array(value.value) : nothing;
  },
};

/** Returns false for keys that must not be probed: a probe would use up a signature, or ask for a PIN. */
export function mayBeProbed(description: Description): boolean {
  return !description.alwaysAuthenticate && !statefulTypes.has(description.type);
}

/** Returns the provers whose results are compared, best first; for signatures see `signatureProver`. */
export function comparedProvers(description: Description, salt: Uint8Array): readonly Prover[] {
  if (!mayBeProbed(description)) return [];
  if (description.class === CKO.secretKey) {
    return [digestProver(salt), checkValueProver, macProver(description, salt)].filter(
      (prover) => prover !== undefined,
    );
  }
  if (description.class !== CKO.privateKey) return [];
  return [deriveProver(description, salt)].filter((prover) => prover !== undefined);
}

/** Returns true if equal results of this kind prove that two replicas are the same key. */
export function proves(kind: ProofKind): boolean {
  return kind !== 'checkValue';
}

/** Returns the public key that a signature is checked with; `point` is the EC point or the DSA public value. */
export function publicMaterialOf(
  { type, ecParams, prime, subprime, base }: Description,
  point: Uint8Array,
): PublicMaterial {
  return { keyType: type, params: ecParams, point, prime, subprime, base };
}
