import { type Attribute, ulongBytes } from '../spec/attribute.js';
import type { ObjectRef, ReadAttribute } from '../spec/calls.js';
import { ck, mechanismName } from '../spec/constants.js';
import { type JobReply, optional, resultOf, step } from '../spec/job.js';
import { encodeMechanism } from '../spec/mechanism.js';
import { CKR_OK } from '../spec/verdict.js';
import { type Errand, insist, runErrand } from './errand.js';
import { TokenError } from './error.js';
import type { Group } from './group.js';
import { CKK, CKO, type Description, describe, describedTypes, RESERVED_LABEL } from './identity.js';
import { DOMAIN_LABEL, findRecords, foundIn, TRANSPORT_LABEL } from './ledger.js';
import type { Member } from './member.js';
import type { ProofKind } from './object.js';
import { comparedProvers } from './proof.js';
import {
  type GroupRecord,
  groupwideTemplate,
  hex,
  keyRecordTemplate,
  type MemberNote,
  noteProofs,
  readRecord,
  recordTemplate,
} from './record.js';
import { inSession, onToken, Script, withAttribute } from './script.js';
import type { Task } from './task.js';
import { oaep, transportTemplate, wrapMechanism } from './travel.js';

const TRANSPORT_BITS = 3072;
/** Records of keys that travel sealed are the largest. */
const LARGEST_RECORD = 16 * 1024;
const MOST_OBJECTS = 0x7fff_ffff;
/** What was begun in vain is taken away again within so long (ms). */
const CLEAN_WITHIN = 15_000;

const CKA = {
  class: ck('CKA_CLASS'),
  keyType: ck('CKA_KEY_TYPE'),
  private: ck('CKA_PRIVATE'),
  label: ck('CKA_LABEL'),
  id: ck('CKA_ID'),
  value: ck('CKA_VALUE'),
  valueLen: ck('CKA_VALUE_LEN'),
  modulus: ck('CKA_MODULUS'),
  modulusBits: ck('CKA_MODULUS_BITS'),
  publicExponent: ck('CKA_PUBLIC_EXPONENT'),
  ecParams: ck('CKA_EC_PARAMS'),
  sensitive: ck('CKA_SENSITIVE'),
  extractable: ck('CKA_EXTRACTABLE'),
} as const;

const CKR = {
  actionProhibited: ck('CKR_ACTION_PROHIBITED'),
  deviceError: ck('CKR_DEVICE_ERROR'),
  deviceRemoved: ck('CKR_DEVICE_REMOVED'),
  keyNotWrappable: ck('CKR_KEY_NOT_WRAPPABLE'),
} as const;

const yes = Uint8Array.of(1);
const no = Uint8Array.of(0);

function flags(given: Readonly<Record<string, boolean>>): Attribute[] {
  return Object.entries(given).map(([name, value]) => ({ type: ck(`CKA_${name}`), value: value ? yes : no }));
}

/** Everything stated: what is left open, tokens fill in as they like. */
const noUse = { ENCRYPT: false, DECRYPT: false, SIGN: false, VERIFY: false, DERIVE: false, WRAP: false, UNWRAP: false };

/** What a partition that has a group record already is to do with it. */
export type Existing = 'copy' | 'remove' | undefined;

/** How keys of a type come from member to member. */
export type Travel = 'wrapped' | 'for each member' | 'not';

/** What forming a group has found out. */
export interface FormationReport {
  readonly id: string;
  readonly label: string;
  readonly members: readonly { readonly name: string; readonly serial: string }[];
  /** The wrapping mechanism that was proven on all members. */
  readonly wrap: string;
  /** How keys travel, by key type; found out by round trips between the members. */
  readonly travels: Readonly<Record<string, Travel>>;
  /** An existing group was adopted as it is. */
  readonly adopted: boolean;
}

function fail(code: number, explanation: string): never {
  throw new TokenError(code, 'createGroup', explanation);
}

/** Waits until no member is on its way any more; throws unless all of them are there. */
export function* awaitAll(group: Group, deadline: number): Task<void> {
  const { members, port } = group;
  const isComing = (): boolean => members.some(({ state }) => state.name === 'joining');
  while (isComing() && port.now() < deadline) yield { signals: [group.changed], until: deadline };
  const away = members.filter(({ isActive, state }) => !isActive && state.name !== 'standby');
  if (away.length > 0) fail(CKR.deviceRemoved, `every member has to be there: ${group.whereabouts}`);
}

/** Throws where a later version has written records: what they say is not known here, so nothing is taken away. */
export function checkNoneNewer(group: Group): void {
  if (group.members.some(({ connection }) => connection?.records?.newer === true))
    fail(CKR.actionProhibited, 'a later version has written records there: this one does not write');
}

/** Forms a group of members that are all in service; see createGroup. */
export function* formGroup(group: Group, existing: Existing, deadline: number): Task<FormationReport> {
  const { members } = group;
  yield* awaitAll(group, deadline);
  checkNoneNewer(group);
  const adopted = meetExisting(group, existing);
  if (adopted !== undefined) return reportOf(adopted, {}, true);
  for (const member of members) {
    if (existing !== 'remove') yield* checkUnused(group, member, deadline);
    yield* removeOwn(group, member, deadline);
  }
  const made = new Set<string>();
  const newId = (size: number): Uint8Array => {
    const id = group.port.randomBytes(size);
    made.add(hex(id));
    return id;
  };
  try {
    for (const member of members) yield* checkStorage(group, member, deadline);
    const notes: MemberNote[] = [];
    for (const member of members) notes.push(yield* makeTransport(group, member, newId(8), deadline));
    const salt = group.port.randomBytes(32);
    const record = yield* makeDomain(group, { group: newId(16), domain: newId(8) }, salt, notes, deadline);
    group.adopt(record);
    const { wrap, travels, wrapsOddLengths } = yield* proveTravel(group, deadline);
    const final: GroupRecord = { ...record, revision: 1, wrap, wrapsOddLengths };
    group.adopt(final);
    for (const member of members) yield* writeRecord(group, member, final, deadline);
    for (const member of members) yield* checkOnlyOne(group, member, final, deadline);
    return reportOf(final, travels, false);
  } catch (error) {
    // Nothing of it stays: a partition with a record belongs to a group.
    const left: string[] = [];
    for (const member of members) if (!(yield* tryToRemove(group, member, made))) left.push(member.name);
    if (left.length === 0 || !(error instanceof TokenError)) throw error;
    throw new TokenError(
      error.code,
      error.method,
      `${error.message}; what was made on ${left.join(', ')} could not be removed: existing: 'remove' does`,
    );
  }
}

/** Refuses a partition that holds a group's records although it did not seem to when it joined. */
function* checkUnused(group: Group, member: Member, deadline: number): Task<void> {
  const find: Errand = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [findRecords, step('X_Find', keyRecordTemplate(), 1, [])] }),
  };
  const reply = yield* insist(group, member, find, deadline);
  const isUsed = foundIn(reply, 0).length > 0 || resultOf(reply, 1, 'X_Find').length > 0;
  if (isUsed)
    fail(
      CKR.actionProhibited,
      `${member.name} holds records of a group; existing: 'remove' takes them away and starts over`,
    );
}

/** Somebody else may have formed a group of the same partitions at the same time: then neither of them has. */
function* checkOnlyOne(group: Group, member: Member, record: GroupRecord, deadline: number): Task<void> {
  const find: Errand = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [findRecords] }),
  };
  for (const { attributes } of foundIn(yield* insist(group, member, find, deadline), 0)) {
    const found = readRecord(attributes[0]?.value ?? new Uint8Array());
    if (found === 'newer' || (found?.kind === 'group' && found.id !== record.id))
      fail(CKR.actionProhibited, `another group was formed of ${member.name} at the same time`);
  }
}

function reportOf(record: GroupRecord, travels: Readonly<Record<string, Travel>>, adopted: boolean): FormationReport {
  const { id, label, members, wrap } = record;
  return {
    id,
    label,
    members: members.map(({ name, serial }) => ({ name, serial })),
    wrap: mechanismName(wrap),
    travels,
    adopted,
  };
}

/** The group that the partitions belong to already, if that is to be adopted. */
function meetExisting(group: Group, existing: Existing): GroupRecord | undefined {
  const found = group.members.flatMap((member) => {
    const record = member.connection?.records?.group?.record;
    return record === undefined ? [] : [{ member, record }];
  });
  const [first] = found;
  if (first === undefined || existing === 'remove') return undefined;
  const names = found.map(({ member, record }) => `${member.name} (group ${record.label})`).join(', ');
  if (existing !== 'copy') {
    fail(
      CKR.actionProhibited,
      `these members have a group record already: ${names}; existing: 'copy' adopts that group as it is, 'remove' starts over`,
    );
  }
  const { record } = first;
  const isWhole =
    found.length === group.members.length &&
    found.every((each) => each.record.id === record.id) &&
    group.members.every(({ serial }) => record.members.some((note) => note.serial === serial));
  if (!isWhole) fail(CKR.actionProhibited, `only a group that all members belong to can be adopted: ${names}`);
  return record;
}

/**
 * Takes everything that is the group's own off a member, or only keys and records of certain ids; the applications'
 * objects stay. Gives how many there were.
 */
export function* removeOwn(group: Group, member: Member, deadline: number, only?: ReadonlySet<string>): Task<number> {
  const own: readonly (readonly Attribute[])[] = [
    // The group's record goes last: until then it is plain what the rest belongs to.
    keyRecordTemplate(),
    [{ type: CKA.label, value: Buffer.from(DOMAIN_LABEL) }],
    [{ type: CKA.label, value: Buffer.from(TRANSPORT_LABEL) }],
    [{ type: CKA.label, value: Buffer.from(`${RESERVED_LABEL}probe`) }],
    groupwideTemplate,
  ];
  let removed = 0;
  for (const template of own) {
    const find: Errand = {
      function: 'C_FindObjects',
      objects: [],
      job: () => ({ steps: [step('X_Find', template, MOST_OBJECTS, [CKA.label, CKA.id, CKA.value])] }),
    };
    const reply = yield* insist(group, member, find, deadline);
    const found = resultOf(reply, 0, 'X_Find')
      .filter(({ attributes: [, id, value] }) => only === undefined || isOneOf(only, id, value))
      .sort((a, b) => order(a.attributes[0]) - order(b.attributes[0]));
    while (found.length > 0) {
      const batch = found.splice(0, 64);
      const steps = batch.map(({ handle }) => step('C_DestroyObject', handle));
      yield* insist(group, member, { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) }, deadline);
      removed += batch.length;
    }
  }
  return removed;
}

function isOneOf(ids: ReadonlySet<string>, id: ReadAttribute | undefined, value: ReadAttribute | undefined): boolean {
  if (ids.has(hex(id?.value ?? new Uint8Array()))) return true;
  const record = readRecord(value?.value ?? new Uint8Array());
  return typeof record === 'object' && record.kind === 'group' && ids.has(record.id);
}

function order(label: { readonly value: Uint8Array } | undefined): number {
  return Buffer.from(label?.value ?? new Uint8Array()).toString() === `${RESERVED_LABEL}group` ? 1 : 0;
}

/** Cleans up with a time of its own, also on a member that was lost and is coming back; false when it cannot. */
function* tryToRemove(group: Group, member: Member, made: ReadonlySet<string>): Task<boolean> {
  const until = group.port.now() + CLEAN_WITHIN;
  try {
    while (!member.isServing && group.port.now() < until) yield { signals: [group.changed], until };
    yield* removeOwn(group, member, until, made);
    return true;
  } catch {
    return false;
  }
}

/** Whether a token takes and keeps data objects as large as records get. */
function* checkStorage(group: Group, member: Member, deadline: number): Task<void> {
  const value = group.port.randomBytes(LARGEST_RECORD);
  const template: readonly Attribute[] = [
    { type: CKA.class, value: ulongBytes(CKO.data) },
    { type: CKA.private, value: yes },
    { type: CKA.label, value: Buffer.from(`${RESERVED_LABEL}probe`) },
    { type: CKA.value, value },
  ];
  const script = new Script();
  const kept = script.keep({ step: script.add(step('C_CreateObject', [...template, inSession])) });
  const readAt = script.add(step('C_GetAttributeValue', { step: kept }, [CKA.value]));
  script.add(step('C_DestroyObject', { step: kept }));
  const reply = yield* insist(group, member, { function: 'C_CreateObject', objects: [], job: () => script }, deadline);
  const [read] = resultOf(reply, readAt, 'C_GetAttributeValue');
  if (Buffer.compare(read?.value ?? new Uint8Array(), value) !== 0)
    fail(CKR.deviceError, `${member.name} does not keep data objects of ${LARGEST_RECORD} bytes`);
}

/** The key pair that keys travel to a member under: it never leaves it. */
function* makeTransport(group: Group, member: Member, id: Uint8Array, deadline: number): Task<MemberNote> {
  const exponent = Uint8Array.of(1, 0, 1);
  const ofPublic: readonly Attribute[] = [
    inSession,
    { type: CKA.modulusBits, value: ulongBytes(TRANSPORT_BITS) },
    { type: CKA.publicExponent, value: exponent },
    ...flags({ WRAP: true, ENCRYPT: false, VERIFY: false }),
  ];
  const ofPrivate: readonly Attribute[] = [
    onToken,
    { type: CKA.label, value: Buffer.from(TRANSPORT_LABEL) },
    { type: CKA.id, value: id },
    ...flags({ PRIVATE: true, SENSITIVE: true, EXTRACTABLE: false, UNWRAP: true }),
    ...flags({ DECRYPT: false, SIGN: false, SIGN_RECOVER: false, DERIVE: false }),
  ];
  const script = new Script();
  const mechanism = encodeMechanism('transport', 'RSA_PKCS_KEY_PAIR_GEN');
  const made = script.add(step('C_GenerateKeyPair', mechanism, ofPublic, ofPrivate));
  const readAt = script.add(step('C_GetAttributeValue', { step: made }, [CKA.modulus, CKA.publicExponent]));
  script.add(step('C_DestroyObject', { step: made }));
  const errand: Errand = { function: 'C_GenerateKeyPair', objects: [], isSlow: true, job: () => script };
  const [modulus, publicExponent] = resultOf(
    yield* insist(group, member, errand, deadline),
    readAt,
    'C_GetAttributeValue',
  );
  return {
    serial: member.serial ?? '',
    name: member.name,
    modulus: hex(modulus?.value ?? new Uint8Array()),
    publicExponent: hex(publicExponent?.value ?? exponent),
    transport: hex(id),
  };
}

/** What the domain key's proofs are taken and compared with. */
function domainDescription(): Description {
  return {
    ...describe(describedTypes.map(() => ({ presence: 'invalid', value: Buffer.alloc(0) }) as const)),
    class: CKO.secretKey,
    type: CKK.aes,
  };
}

function addProofs(script: Script, salt: Uint8Array, key: ObjectRef): (reply: JobReply) => Map<ProofKind, Uint8Array> {
  const asked = comparedProvers(domainDescription(), salt).map((prover) => {
    const at = script.steps.length;
    script.add(...prover.steps(key, at).map(optional));
    return { prover, at };
  });
  return (reply) => {
    const proofs = asked.map(({ prover, at }) => [prover.kind, prover.read(reply, at)] as const);
    return new Map(proofs.filter(([, proof]) => proof.length > 0));
  };
}

/**
 * Makes the domain key: born on one member as a session object, wrapped once for each under its transport key,
 * and installed on each as a key that cannot be taken out and can do nothing but wrap and unwrap.
 */
function* makeDomain(
  group: Group,
  ids: { readonly group: Uint8Array; readonly domain: Uint8Array },
  salt: Uint8Array,
  notes: readonly MemberNote[],
  deadline: number,
): Task<GroupRecord> {
  const id = ids.domain;
  const [birthplace] = group.members;
  if (birthplace === undefined) fail(CKR.deviceRemoved, 'there is no member');
  const use = flags({ ...noUse, WRAP: true, UNWRAP: true, PRIVATE: true, SENSITIVE: true });
  const script = new Script();
  const born = script.add(
    step('C_GenerateKey', encodeMechanism('domain', 'AES_KEY_GEN'), [
      inSession,
      { type: CKA.valueLen, value: ulongBytes(32) },
      ...use,
      { type: CKA.extractable, value: yes },
    ]),
  );
  const readProofs = addProofs(script, salt, { step: born });
  const wraps = notes.map((note) => {
    const key = script.add(step('C_CreateObject', transportTemplate(note)));
    const at = script.add(step('C_WrapKey', oaep, { step: key }, { step: born }));
    script.add(step('C_DestroyObject', { step: key }));
    return at;
  });
  script.add(step('C_DestroyObject', { step: born }));
  const errand: Errand = { function: 'C_GenerateKey', objects: [], job: () => script };
  const reply = yield* insist(group, birthplace, errand, deadline);
  const proofs = readProofs(reply);
  const record: GroupRecord = {
    kind: 'group',
    id: hex(ids.group),
    label: group.label,
    revision: 0,
    salt: hex(salt),
    members: notes,
    domain: { id: hex(id), proofs: noteProofs(proofs) },
    wrap: 0,
    wrapsOddLengths: false,
  };
  const template: readonly Attribute[] = [
    { type: CKA.class, value: ulongBytes(CKO.secretKey) },
    { type: CKA.keyType, value: ulongBytes(CKK.aes) },
    { type: CKA.label, value: Buffer.from(DOMAIN_LABEL) },
    { type: CKA.id, value: id },
    ...use,
    { type: CKA.extractable, value: no },
  ];
  for (const [index, member] of group.members.entries()) {
    const blob = resultOf(reply, wraps[index] ?? -1, 'C_WrapKey');
    yield* installDomain(group, member, record, template, blob, salt, proofs, deadline);
  }
  return record;
}

function* installDomain(
  group: Group,
  member: Member,
  record: GroupRecord,
  template: readonly Attribute[],
  blob: Uint8Array,
  salt: Uint8Array,
  expected: ReadonlyMap<ProofKind, Uint8Array>,
  deadline: number,
): Task<void> {
  const note = record.members.find(({ serial }) => serial === member.serial);
  const find: readonly Attribute[] = [
    { type: CKA.class, value: ulongBytes(CKO.privateKey) },
    { type: CKA.label, value: Buffer.from(TRANSPORT_LABEL) },
    { type: CKA.id, value: Buffer.from(note?.transport ?? '', 'hex') },
  ];
  const script = new Script();
  const transport = script.add(step('X_Find', find, 1, []));
  const made = script.add(step('C_UnwrapKey', oaep, { step: transport }, blob, withAttribute(template, inSession)));
  const readProofs = addProofs(script, salt, { step: made });
  script.keep({ step: made });
  const errand: Errand = { function: 'C_UnwrapKey', objects: [], job: () => script };
  const proofs = readProofs(yield* insist(group, member, errand, deadline));
  for (const [kind, proof] of expected) {
    const own = proofs.get(kind);
    if (own !== undefined && Buffer.compare(own, proof) !== 0)
      fail(CKR.deviceError, `the domain key came out as another one on ${member.name}`);
  }
}

/** The wrapping mechanisms that a group may use, the best first. */
const candidates: readonly number[] = [0x210a, 0x210b, 0x2109];

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

interface Proven {
  readonly wrap: number;
  readonly wrapsOddLengths: boolean;
  readonly travels: Readonly<Record<string, Travel>>;
}

/** Finds out by round trips which mechanism carries which keys unharmed: mechanism lists promise too much. */
function* proveTravel(group: Group, deadline: number): Task<Proven> {
  let best: Proven | undefined;
  for (const wrap of candidates) {
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

function* writeRecord(group: Group, member: Member, record: GroupRecord, deadline: number): Task<void> {
  const script = new Script();
  const made = script.add(step('C_CreateObject', recordTemplate(record, false)));
  script.keep({ step: made });
  yield* insist(group, member, { function: 'C_CreateObject', objects: [], job: () => script }, deadline);
}
