import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import type { ObjectRef } from '../../spec/calls.js';
import { CKA, CKK, CKO, CKR } from '../../spec/codes.js';
import { type JobReply, optional, resultOf, type Step, step } from '../../spec/job.js';
import { encodeMechanism } from '../../spec/mechanism.js';
import { CKR_OK } from '../../spec/verdict.js';
import { sameBytes } from '../base/bytes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { inSession, JobBuilder } from '../jobs/job-builder.js';
import {
  addWrapping,
  forEachMember,
  type UnwrapInputs,
  unwrapInputsOf,
  wrapMechanism,
  wrapMethodFor,
} from '../jobs/key-wrapping.js';
import type { MemberJob } from '../jobs/member-job.js';
import type { Wrapped } from '../objects/key-note.js';
import { fromHex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { flags } from '../objects/template-flags.js';
import type { GroupRecord } from '../records/record.js';

/** Way in which keys of a type get from member to member. */
export type KeyTravel = 'wrapped' | 'for each member' | 'not';

/**
 * Mechanisms (CKM codes) that may wrap a group's keys under its domain key, best first: AES_KEY_WRAP_PAD,
 * AES_KEY_WRAP_KWP, AES_KEY_WRAP.
 */
export const wrapCandidates: readonly number[] = [0x210a, 0x210b, 0x2109];

/** Type of key that the probe wraps. */
interface WrapTrial {
  /** Name of the type in the report. */
  readonly name: string;
  readonly template: (random: (size: number) => Uint8Array) => readonly Attribute[];
  /** Generation of the pair, for private keys, which cannot be created from random bytes; undefined for secrets. */
  readonly pair?: { readonly mechanism: string; readonly template: readonly Attribute[] };
}

function secretTrial(name: string, type: number, size: number): WrapTrial {
  return {
    name,
    template: (random) => [
      { type: CKA.class, value: ulongBytes(CKO.secretKey) },
      { type: CKA.keyType, value: ulongBytes(type) },
      { type: CKA.value, value: random(size) },
    ],
  };
}

function pairTrial(name: string, mechanism: string, type: number, template: readonly Attribute[]): WrapTrial {
  return {
    name,
    pair: { mechanism, template },
    template: () => [
      { type: CKA.class, value: ulongBytes(CKO.privateKey) },
      { type: CKA.keyType, value: ulongBytes(type) },
    ],
  };
}

/** Name of the trial with a length that is no multiple of eight bytes. */
const ODD = 'GENERIC_SECRET of odd length';
const trials: readonly WrapTrial[] = [
  secretTrial('AES', CKK.aes, 32),
  secretTrial('DES3', CKK.des3, 24),
  secretTrial('GENERIC_SECRET', CKK.genericSecret, 24),
  secretTrial(ODD, CKK.genericSecret, 13),
  pairTrial('RSA', 'RSA_PKCS_KEY_PAIR_GEN', CKK.rsa, [
    { type: CKA.modulusBits, value: ulongBytes(2048) },
    { type: CKA.publicExponent, value: Uint8Array.of(1, 0, 1) },
  ]),
  pairTrial('EC', 'EC_KEY_PAIR_GEN', CKK.ec, [
    { type: CKA.ecParams, value: Buffer.from('06082a8648ce3d030107', 'hex') },
  ]),
  pairTrial('EC_EDWARDS', 'EC_EDWARDS_KEY_PAIR_GEN', CKK.ecEdwards, [
    { type: CKA.ecParams, value: Buffer.from('130c656477617264733235353139', 'hex') },
  ]),
];

/** Result of the probe. */
interface ProvenWrapping {
  /** Mechanism code (CKM), or `forEachMember`. */
  readonly wrap: number;
  readonly wrapsOddLengths: boolean;
  /** Way of each type of key, by the trial's name. */
  readonly travels: Readonly<Record<string, KeyTravel>>;
}

/**
 * Finds out by round trips which mechanism carries which types of keys unchanged, since mechanism lists promise too
 * much. If none wraps AES keys under the domain key, as behind p11-kit's remoting, keys are wrapped for each member.
 */
export function* probeWrapping(group: Group, deadline: number): Task<ProvenWrapping> {
  let best: ProvenWrapping | undefined;
  for (const wrap of [...wrapCandidates, forEachMember]) {
    if (wrap === forEachMember && best?.travels.AES === 'wrapped') break;
    const proven = yield* proveWith(group, wrap, deadline);
    if (best === undefined || carried(proven) > carried(best)) best = proven;
    if (best.travels.AES === 'wrapped' && best.travels.RSA === 'wrapped') break;
  }
  if (group.policy.replication === 'wrap' && (best === undefined || best.travels.AES === 'not'))
    refuse(
      CKR.keyNotWrappable,
      "the members cannot wrap an AES key for each other; with policy.replication 'external' the vendor's tool copies keys",
    );
  const { travels, ...rest } = best as ProvenWrapping;
  const isCarriedApart = travels[ODD] === 'not' && travels.GENERIC_SECRET === 'wrapped';
  return { ...rest, travels: isCarriedApart ? { ...travels, [ODD]: 'for each member' } : travels };
}

const carried = ({ travels }: ProvenWrapping): number => Object.values(travels).filter((way) => way !== 'not').length;

function* proveWith(group: Group, wrap: number, deadline: number): Task<ProvenWrapping> {
  const way: KeyTravel = wrap === forEachMember ? 'for each member' : 'wrapped';
  const travels: Record<string, KeyTravel> = {};
  for (const trial of trials)
    travels[trial.name] = (yield* survivesRoundTrip(group, wrap, trial, deadline)) ? way : 'not';
  return { wrap, travels, wrapsOddLengths: travels[ODD] === 'wrapped' };
}

/** Trial that is under way. */
interface WrapRun {
  readonly group: Group;
  readonly trial: WrapTrial;
  /** Group record with the mechanism under trial. */
  readonly record: GroupRecord;
  readonly domain: VirtualObject;
  /** Template of the key under trial. */
  readonly template: readonly Attribute[];
  readonly deadline: number;
}

/** Tells whether a key gets from the first member to every member, including the first, and is still the same key. */
function* survivesRoundTrip(group: Group, wrap: number, trial: WrapTrial, deadline: number): Task<boolean> {
  const { domain, record } = group.ledger;
  const [from] = group.members;
  if (from === undefined || domain === undefined || record === undefined) return false;
  const template: readonly Attribute[] = [
    ...trial.template((size) => group.port.randomBytes(size)),
    inSession,
    ...flags({ SENSITIVE: true, EXTRACTABLE: true, PRIVATE: true }),
    ...(trial.pair === undefined ? [] : flags({ SIGN: true })),
  ];
  const run: WrapRun = { group, trial, record: { ...record, wrap }, domain, template, deadline };
  const sent = yield* wrapOn(run, from);
  if (sent === undefined) return false;
  const { wrapped, proof } = sent;
  // Without a proof of the secret, padding goes unnoticed: odd lengths count as not wrapped, the others are trusted.
  if (trial.pair === undefined && proof.length === 0) return trial.name !== ODD;
  for (const to of group.members) {
    const unwrapInputs =
      'domain' in wrapped
        ? { mechanism: wrapMechanism(run.record), key: domain, blob: fromHex(wrapped.blob) }
        : unwrapInputsOf(group.ledger, wrapped, to.serial);
    if (unwrapInputs === undefined) return false;
    const received = yield* unwrapOn(run, to, unwrapInputs);
    if (received === undefined || (proof.length > 0 && !sameBytes(received, proof))) return false;
  }
  return true;
}

/** Makes a key on a member and wraps it; undefined if the member cannot. */
function* wrapOn(
  { group, trial, record, domain, template, deadline }: WrapRun,
  member: Member,
): Task<{ readonly wrapped: Wrapped; readonly proof: Uint8Array } | undefined> {
  let read: ReturnType<typeof addWrapping> = () => undefined;
  let proofsAt = 0;
  const memberJob: MemberJob = {
    function: 'C_WrapKey',
    objects: [domain],
    isSlow: true,
    job: ([domainKey = new Uint8Array(8)]) => {
      const builder = new JobBuilder();
      const made = builder.add(makingStep(trial, template));
      const key: ObjectRef = trial.pair === undefined ? { step: made } : { step: made, second: true };
      read = addWrapping(builder, record, wrapMethodFor(record, false, undefined), domainKey, key);
      proofsAt = builder.add(...proofSteps(trial, key, group.salt));
      builder.add(step('C_DestroyObject', key));
      if (trial.pair !== undefined) builder.add(step('C_DestroyObject', { step: made }));
      return builder;
    },
  };
  const reply = yield* runTrialJob(group, member, memberJob, deadline);
  const wrapped = reply === undefined ? undefined : read(reply);
  if (reply === undefined || wrapped === undefined) return undefined;
  return { wrapped, proof: proofOf(reply, proofsAt, trial) };
}

/** Runs a job of a trial; undefined if the member cannot do it, CKR_DEVICE_REMOVED if the member is lost. */
function* runTrialJob(
  group: Group,
  member: Member,
  memberJob: MemberJob,
  deadline: number,
): Task<JobReply | undefined> {
  const end = yield* runOnMember(group, member, memberJob, deadline);
  if (end.kind === 'gone') refuse(CKR.deviceRemoved, `${member.name} was lost while key wrapping was tried`);
  return end.kind === 'done' ? end.reply : undefined;
}

function makingStep({ pair }: WrapTrial, template: readonly Attribute[]): Step {
  if (pair === undefined) return step('C_CreateObject', template);
  return step('C_GenerateKeyPair', encodeMechanism('trial', pair.mechanism), [...pair.template, inSession], template);
}

const digest = encodeMechanism('trial', 'SHA256');

/** Returns the steps that prove a key: the digest of a secret, the modulus of an RSA key; other keys have no proof. */
function proofSteps(trial: WrapTrial, key: ObjectRef, salt: Uint8Array): Step[] {
  if (trial.pair !== undefined) return [optional(step('C_GetAttributeValue', key, [CKA.modulus]))];
  return [
    step('C_DigestInit', digest),
    step('C_DigestUpdate', salt),
    step('C_DigestKey', key),
    step('C_DigestFinal'),
  ].map(optional);
}

/** Returns the proof that `proofSteps` asked for; empty if the token did not give it. */
function proofOf(reply: JobReply, at: number, trial: WrapTrial): Uint8Array {
  if (trial.pair !== undefined) {
    if (reply.results[at]?.code !== CKR_OK) return new Uint8Array();
    return resultOf(reply, at, 'C_GetAttributeValue')[0]?.value ?? new Uint8Array();
  }
  const isProven = reply.results[at + 2]?.code === CKR_OK && reply.results[at + 3]?.code === CKR_OK;
  return isProven ? resultOf(reply, at + 3, 'C_DigestFinal') : new Uint8Array();
}

/** Unwraps a key on a member; returns its proof, undefined if the member cannot unwrap it. */
function* unwrapOn(
  { group, trial, template, deadline }: WrapRun,
  member: Member,
  { mechanism, key: unwrappingKey, blob }: UnwrapInputs,
): Task<Uint8Array | undefined> {
  const wanted = template.filter(({ type }) => type !== CKA.value);
  const memberJob: MemberJob = {
    function: 'C_UnwrapKey',
    objects: [unwrappingKey],
    job: ([key = new Uint8Array(8)]) => {
      const builder = new JobBuilder();
      const made = builder.add(step('C_UnwrapKey', mechanism, key, blob, wanted));
      builder.add(...proofSteps(trial, { step: made }, group.salt));
      builder.add(step('C_DestroyObject', { step: made }));
      return builder;
    },
  };
  const reply = yield* runTrialJob(group, member, memberJob, deadline);
  return reply === undefined ? undefined : proofOf(reply, 1, trial);
}
