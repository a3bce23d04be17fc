import { type Attribute, ulongBytes } from '../spec/attribute.js';
import type { ObjectRef } from '../spec/calls.js';
import { ck } from '../spec/constants.js';
import { type JobReply, optional, resultOf, step } from '../spec/job.js';
import { encodeMechanism } from '../spec/mechanism.js';
import { CKR_OK } from '../spec/verdict.js';
import { type Errand, runErrand } from './errand.js';
import type { Group } from './group.js';
import { CKK, CKO } from './identity.js';
import type { Member } from './member.js';
import { fail } from './refusal.js';
import { inSession, Script } from './script.js';
import type { Task } from './task.js';
import { flags } from './template-flags.js';
import { wrapMechanism } from './travel.js';

const CKA = {
  class: ck('CKA_CLASS'),
  keyType: ck('CKA_KEY_TYPE'),
  value: ck('CKA_VALUE'),
  modulus: ck('CKA_MODULUS'),
  modulusBits: ck('CKA_MODULUS_BITS'),
  publicExponent: ck('CKA_PUBLIC_EXPONENT'),
  ecParams: ck('CKA_EC_PARAMS'),
} as const;

const CKR = {
  deviceRemoved: ck('CKR_DEVICE_REMOVED'),
  keyNotWrappable: ck('CKR_KEY_NOT_WRAPPABLE'),
} as const;

/** How keys of a type come from member to member. */
export type Travel = 'wrapped' | 'for each member' | 'not';

/** The wrapping mechanisms that a group may use, the best first. */
export const wrapCandidates: readonly number[] = [0x210a, 0x210b, 0x2109];

interface Trial {
  readonly name: string;
  readonly template: (random: (size: number) => Uint8Array) => readonly Attribute[];
  /** Pairs are generated: a private key cannot be made up. */
  readonly pair?: { readonly mechanism: string; readonly template: readonly Attribute[] };
}

function secretTrial(name: string, type: number, size: number): Trial {
  return {
    name,
    template: (random) => [
      { type: CKA.class, value: ulongBytes(CKO.secretKey) },
      { type: CKA.keyType, value: ulongBytes(type) },
      { type: CKA.value, value: random(size) },
    ],
  };
}

function pairTrial(name: string, mechanism: string, type: number, template: readonly Attribute[]): Trial {
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
const trials: readonly Trial[] = [
  secretTrial('AES', CKK.aes, 32),
  secretTrial('DES3', CKK.des3, 24),
  secretTrial('GENERIC_SECRET', ck('CKK_GENERIC_SECRET'), 24),
  secretTrial(ODD, ck('CKK_GENERIC_SECRET'), 13),
  pairTrial('RSA', 'RSA_PKCS_KEY_PAIR_GEN', CKK.rsa, [
    { type: CKA.modulusBits, value: ulongBytes(2048) },
    { type: CKA.publicExponent, value: Uint8Array.of(1, 0, 1) },
  ]),
  pairTrial('EC', 'EC_KEY_PAIR_GEN', CKK.ec, [
    { type: CKA.ecParams, value: Buffer.from('06082a8648ce3d030107', 'hex') },
  ]),
  pairTrial('EC_EDWARDS', 'EC_EDWARDS_KEY_PAIR_GEN', CKK.edwards, [
    { type: CKA.ecParams, value: Buffer.from('130c656477617264733235353139', 'hex') },
  ]),
];

export interface Proven {
  readonly wrap: number;
  readonly wrapsOddLengths: boolean;
  readonly travels: Readonly<Record<string, Travel>>;
}

/** Finds out by round trips which mechanism carries which keys unharmed: mechanism lists promise too much. */
export function* proveTravel(group: Group, deadline: number): Task<Proven> {
  let best: Proven | undefined;
  for (const wrap of wrapCandidates) {
    const travels: Record<string, Travel> = {};
    for (const trial of trials)
      travels[trial.name] = (yield* travelsWith(group, wrap, trial, deadline)) ? 'wrapped' : 'not';
    const count = (proven: Proven): number => Object.values(proven.travels).filter((way) => way === 'wrapped').length;
    const proven: Proven = { wrap, travels, wrapsOddLengths: travels[ODD] === 'wrapped' };
    if (best === undefined || count(proven) > count(best)) best = proven;
    if (best.travels.AES === 'wrapped' && best.travels.RSA === 'wrapped') break;
  }
  if (group.policy.replication === 'wrap' && best?.travels.AES !== 'wrapped')
    fail(
      CKR.keyNotWrappable,
      "the members cannot wrap an AES key for each other: policy.replication 'external' leaves that to the vendor's tool",
    );
  const { travels, ...rest } = best as Proven;
  const isCarriedApart = travels[ODD] === 'not' && travels.GENERIC_SECRET === 'wrapped';
  return { ...rest, travels: isCarriedApart ? { ...travels, [ODD]: 'for each member' } : travels };
}

/** Whether a key comes from the first member to each of the others, and to itself, as what it was. */
function* travelsWith(group: Group, wrap: number, trial: Trial, deadline: number): Task<boolean> {
  const { domain, record } = group.ledger;
  const [from] = group.members;
  if (from === undefined || domain === undefined || record === undefined) return false;
  const template: readonly Attribute[] = [
    ...trial.template((size) => group.port.randomBytes(size)),
    inSession,
    ...flags({ SENSITIVE: true, EXTRACTABLE: true, PRIVATE: true }),
  ];
  const mechanism = wrapMechanism({ ...record, wrap });
  const usage: readonly Attribute[] = trial.pair === undefined ? [] : flags({ SIGN: true });
  const script = (domainKey: Uint8Array): { readonly script: Script; readonly at: number } => {
    const steps = new Script();
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
    const at = steps.add(step('C_WrapKey', mechanism, domainKey, key));
    steps.add(...proofSteps(trial, key, group.salt));
    steps.add(step('C_DestroyObject', key));
    if (trial.pair !== undefined) steps.add(step('C_DestroyObject', { step: made }));
    return { script: steps, at };
  };
  const wrapErrand: Errand = {
    function: 'C_WrapKey',
    objects: [domain],
    isSlow: true,
    job: ([key = new Uint8Array(8)]) => script(key).script,
  };
  const end = yield* runErrand(group, from, wrapErrand, deadline);
  if (end.kind === 'gone') fail(CKR.deviceRemoved, `${from.name} was lost while keys were tried`);
  if (end.kind !== 'done') return false;
  const at = script(new Uint8Array(8)).at;
  const blob = resultOf(end.reply, at, 'C_WrapKey');
  const expected = proofOf(end.reply, at + 1, trial);
  // A secret that nothing can be proven of may have come out padded.
  if (trial.pair === undefined && expected.length === 0) return trial.name !== ODD;
  for (const to of group.members) {
    const arrived = yield* arrives(
      group,
      to,
      wrapMechanism({ ...record, wrap }),
      blob,
      [...template, ...usage],
      trial,
      deadline,
    );
    if (arrived === undefined || (expected.length > 0 && Buffer.compare(arrived, expected) !== 0)) return false;
  }
  return true;
}

const digest = encodeMechanism('trial', 'SHA256');

/** What shows that it is the key: the digest of a secret, the modulus of an RSA key. Others have come out at least. */
function proofSteps(trial: Trial, key: ObjectRef, salt: Uint8Array): ReturnType<typeof step>[] {
  if (trial.pair !== undefined) return [optional(step('C_GetAttributeValue', key, [CKA.modulus]))];
  return [
    step('C_DigestInit', digest),
    step('C_DigestUpdate', salt),
    step('C_DigestKey', key),
    step('C_DigestFinal'),
  ].map(optional);
}

function proofOf(reply: JobReply, at: number, trial: Trial): Uint8Array {
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
  mechanism: ReturnType<typeof wrapMechanism>,
  blob: Uint8Array,
  template: readonly Attribute[],
  trial: Trial,
  deadline: number,
): Task<Uint8Array | undefined> {
  const { domain } = group.ledger;
  if (domain === undefined) return undefined;
  const wanted = template.filter(({ type }) => type !== CKA.value);
  const errand: Errand = {
    function: 'C_UnwrapKey',
    objects: [domain],
    job: ([key = new Uint8Array(8)]) => {
      const script = new Script();
      const made = script.add(step('C_UnwrapKey', mechanism, key, blob, wanted));
      script.add(...proofSteps(trial, { step: made }, group.salt));
      script.add(step('C_DestroyObject', { step: made }));
      return script;
    },
  };
  const end = yield* runErrand(group, member, errand, deadline);
  if (end.kind === 'gone') fail(CKR.deviceRemoved, `${member.name} was lost while keys were tried`);
  return end.kind === 'done' ? proofOf(end.reply, 1, trial) : undefined;
}
