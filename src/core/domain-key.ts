import { type Attribute, ulongBytes } from '../spec/attribute.js';
import type { ObjectRef } from '../spec/calls.js';
import { ck } from '../spec/constants.js';
import { type JobReply, optional, resultOf, step } from '../spec/job.js';
import { encodeMechanism } from '../spec/mechanism.js';
import { type Errand, insist } from './errand.js';
import type { Group } from './group.js';
import { CKK, CKO, type Description, describe, describedTypes } from './identity.js';
import { DOMAIN_LABEL, TRANSPORT_LABEL } from './ledger.js';
import type { Member } from './member.js';
import type { ProofKind } from './object.js';
import { comparedProvers } from './proof.js';
import { type GroupRecord, hex, type MemberNote, noteProofs } from './record.js';
import { fail } from './refusal.js';
import { inSession, onToken, Script, withAttribute } from './script.js';
import type { Task } from './task.js';
import { flags } from './template-flags.js';
import { oaep, transportTemplate } from './travel.js';

const TRANSPORT_BITS = 3072;

const CKA = {
  class: ck('CKA_CLASS'),
  keyType: ck('CKA_KEY_TYPE'),
  label: ck('CKA_LABEL'),
  id: ck('CKA_ID'),
  valueLen: ck('CKA_VALUE_LEN'),
  modulus: ck('CKA_MODULUS'),
  modulusBits: ck('CKA_MODULUS_BITS'),
  publicExponent: ck('CKA_PUBLIC_EXPONENT'),
  extractable: ck('CKA_EXTRACTABLE'),
} as const;

const CKR = {
  deviceError: ck('CKR_DEVICE_ERROR'),
  deviceRemoved: ck('CKR_DEVICE_REMOVED'),
} as const;

const yes = Uint8Array.of(1);
const no = Uint8Array.of(0);

/** Everything stated: what is left open, tokens fill in as they like. */
const noUse = { ENCRYPT: false, DECRYPT: false, SIGN: false, VERIFY: false, DERIVE: false, WRAP: false, UNWRAP: false };

/** The key pair that keys travel to a member under: it never leaves it. */
export function* makeTransport(group: Group, member: Member, id: Uint8Array, deadline: number): Task<MemberNote> {
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
export function* makeDomain(
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
