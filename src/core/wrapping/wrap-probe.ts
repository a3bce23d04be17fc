import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import type { ObjectRef } from '../../spec/calls.js';
import { CKA, CKK, CKO, CKR } from '../../spec/codes.js';
import { type JobReply, optional, resultOf, step } from '../../spec/job.js';
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
import { fromHex } from '../objects/note.js';
import { flags } from '../objects/template-flags.js';
import type { GroupRecord } from '../records/record.js';

/** How keys of a type come from member to member. */
export type KeyTravel = 'wrapped' | 'for each member' | 'not';

/** The mechanisms that may wrap a group's keys under its domain key, the best first. */
export const wrapCandidates: readonly number[] = [0x210a, 0x210b, 0x2109];

interface WrapTrial {
  readonly name: string;
  readonly template: (random: (size: number) => Uint8Array) => readonly Attribute[];
  /** Pairs are generated: a private key cannot be made up. */
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

export interface ProvenWrapping {
  readonly wrap: number;
  readonly wrapsOddLengths: boolean;
  readonly travels: Readonly<Record<string, KeyTravel>>;
}

/**
 * Finds out by round trips which mechanism carries which keys unharmed: mechanism lists promise too much. Where none
 * wraps AES keys under the domain key, as behind p11-kit's remoting, they go for each member under its transport key.
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
      "the members cannot wrap an AES key for each other: policy.replication 'external' leaves that to the vendor's tool",
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

/** Whether a key comes from the first member to each of the others, and to itself, as what it was. */
function* survivesRoundTrip(group: Group, wrap: number, trial: WrapTrial, deadline: number): Task<boolean> {
  const { domain, record } = group.ledger;
  const [from] = group.members;
  if (from === undefined || domain === undefined || record === undefined) return false;
  const tried: GroupRecord = { ...record, wrap };
  const template: readonly Attribute[] = [
    ...trial.template((size) => group.port.randomBytes(size)),
    inSession,
    ...flags({ SENSITIVE: true, EXTRACTABLE: true, PRIVATE: true }),
  ];
  const usage: readonly Attribute[] = trial.pair === undefined ? [] : flags({ SIGN: true });
  let read: ReturnType<typeof addWrapping> = () => undefined;
  let proofsAt = 0;
  const wrapJob: MemberJob = {
    function: 'C_WrapKey',
    objects: [domain],
    isSlow: true,
    job: ([domainKey = new Uint8Array(8)]) => {
      const steps = new JobBuilder();
      const made =
        trial.pair === undefined
          ? steps.add(step('C_CreateObject', template))
          : steps.add(
              step(
                'C_GenerateKeyPair',
                encodeMechanism('trial', trial.pair.mechanism),
                [...trial.pair.template, inSession],
                [...template, ...usage],
              ),
            );
      const key: ObjectRef = trial.pair === undefined ? { step: made } : { step: made, second: true };
      read = addWrapping(steps, tried, wrapMethodFor(tried, false, undefined), domainKey, key);
      proofsAt = steps.steps.length;
      steps.add(...proofSteps(trial, key, group.salt));
      steps.add(step('C_DestroyObject', key));
      if (trial.pair !== undefined) steps.add(step('C_DestroyObject', { step: made }));
      return steps;
    },
  };
  const end = yield* runOnMember(group, from, wrapJob, deadline);
  if (end.kind === 'gone') refuse(CKR.deviceRemoved, `${from.name} was lost while keys were tried`);
  if (end.kind !== 'done') return false;
  const wrapped = read(end.reply);
  if (wrapped === undefined) return false;
  const expected = proofOf(end.reply, proofsAt, trial);
  // A secret that nothing can be proven of may have come out padded.
  if (trial.pair === undefined && expected.length === 0) return trial.name !== ODD;
  for (const to of group.members) {
    const unwrapInputs =
      'domain' in wrapped
        ? { mechanism: wrapMechanism(tried), key: domain, blob: fromHex(wrapped.blob) }
        : unwrapInputsOf(group.ledger, wrapped, to.serial);
    if (unwrapInputs === undefined) return false;
    const arrived = yield* arrives(group, to, unwrapInputs, [...template, ...usage], trial, deadline);
    if (arrived === undefined || (expected.length > 0 && !sameBytes(arrived, expected))) return false;
  }
  return true;
}

const digest = encodeMechanism('trial', 'SHA256');

/** What shows that it is the key: the digest of a secret, the modulus of an RSA key. Others have come out at least. */
function proofSteps(trial: WrapTrial, key: ObjectRef, salt: Uint8Array): ReturnType<typeof step>[] {
  if (trial.pair !== undefined) return [optional(step('C_GetAttributeValue', key, [CKA.modulus]))];
  return [
    step('C_DigestInit', digest),
    step('C_DigestUpdate', salt),
    step('C_DigestKey', key),
    step('C_DigestFinal'),
  ].map(optional);
}

function proofOf(reply: JobReply, at: number, trial: WrapTrial): Uint8Array {
  if (trial.pair !== undefined) {
    if (reply.results[at]?.code !== CKR_OK) return new Uint8Array();
    return resultOf(reply, at, 'C_GetAttributeValue')[0]?.value ?? new Uint8Array();
  }
  const isThere = reply.results[at + 2]?.code === CKR_OK && reply.results[at + 3]?.code === CKR_OK;
  return isThere ? resultOf(reply, at + 3, 'C_DigestFinal') : new Uint8Array();
}

function* arrives(
  group: Group,
  member: Member,
  { mechanism, key: by, blob }: UnwrapInputs,
  template: readonly Attribute[],
  trial: WrapTrial,
  deadline: number,
): Task<Uint8Array | undefined> {
  const wanted = template.filter(({ type }) => type !== CKA.value);
  const memberJob: MemberJob = {
    function: 'C_UnwrapKey',
    objects: [by],
    job: ([key = new Uint8Array(8)]) => {
      const builder = new JobBuilder();
      const made = builder.add(step('C_UnwrapKey', mechanism, key, blob, wanted));
      builder.add(...proofSteps(trial, { step: made }, group.salt));
      builder.add(step('C_DestroyObject', { step: made }));
      return builder;
    },
  };
  const end = yield* runOnMember(group, member, memberJob, deadline);
  if (end.kind === 'gone') refuse(CKR.deviceRemoved, `${member.name} was lost while keys were tried`);
  return end.kind === 'done' ? proofOf(end.reply, 1, trial) : undefined;
}
