import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import type { ObjectRef } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import { type JobReply, optional, resultOf, step } from '../../spec/job.js';
import { encodeMechanism } from '../../spec/mechanism.js';
import type { Task } from '../base/task.js';
import { runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { inSession, JobBuilder, onToken } from '../jobs/job-builder.js';
import { oaep, transportTemplate } from '../jobs/key-wrapping.js';
import type { MemberJob } from '../jobs/member-job.js';
import { comparedProvers } from '../jobs/proof.js';
import { type Description, describeValues } from '../objects/identity.js';
import type { ProofKind } from '../objects/key-note.js';
import { fromHex, hex, noteProofs } from '../objects/note.js';
import { flags } from '../objects/template-flags.js';
import { DOMAIN_LABEL, TRANSPORT_LABEL } from '../records/ledger.js';
import type { DomainNote, MemberNote } from '../records/record.js';
import { privateOnToken } from '../records/record-template.js';

/** Size of a transport key's modulus (bits). */
const TRANSPORT_BITS = 3072;

const yes = Uint8Array.of(1);
const no = Uint8Array.of(0);

/** Usage flags of a key without any use; all are stated, since tokens have different defaults. */
const noUse = { ENCRYPT: false, DECRYPT: false, SIGN: false, VERIFY: false, DERIVE: false, WRAP: false, UNWRAP: false };

/** Generates a member's transport key pair; the private key stays on the token, the note holds the public key. */
export function* makeTransport(
  group: Group,
  member: Member,
  id: Uint8Array,
  deadline: number,
  label: string = TRANSPORT_LABEL,
): Task<MemberNote> {
  const exponent = Uint8Array.of(1, 0, 1);
  const ofPublic: readonly Attribute[] = [
    inSession,
    { type: CKA.modulusBits, value: ulongBytes(TRANSPORT_BITS) },
    { type: CKA.publicExponent, value: exponent },
    ...flags({ WRAP: true, ENCRYPT: false, VERIFY: false }),
  ];
  const ofPrivate: readonly Attribute[] = [
    onToken,
    { type: CKA.label, value: Buffer.from(label) },
    { type: CKA.id, value: id },
    ...flags({ PRIVATE: true, SENSITIVE: true, EXTRACTABLE: false, UNWRAP: true }),
    ...flags({ DECRYPT: false, SIGN: false, SIGN_RECOVER: false, DERIVE: false }),
  ];
  const builder = new JobBuilder();
  const mechanism = encodeMechanism('transport', 'RSA_PKCS_KEY_PAIR_GEN');
  const made = builder.add(step('C_GenerateKeyPair', mechanism, ofPublic, ofPrivate));
  const readAt = builder.add(step('C_GetAttributeValue', { step: made }, [CKA.modulus, CKA.publicExponent]));
  builder.add(step('C_DestroyObject', { step: made }));
  const memberJob: MemberJob = { function: 'C_GenerateKeyPair', objects: [], isSlow: true, job: () => builder };
  const [modulus, publicExponent] = resultOf(
    yield* runOnMemberOrThrow(group, member, memberJob, deadline),
    readAt,
    'C_GetAttributeValue',
  );
  return {
    serial: member.serial ?? '',
    name: member.name,
    id: hex(group.port.randomBytes(16)),
    modulus: hex(modulus?.value ?? new Uint8Array()),
    publicExponent: hex(publicExponent?.value ?? exponent),
    transport: hex(id),
  };
}

/** Returns the description that the provers of a domain key need. */
function domainDescription(): Description {
  return {
    ...describeValues([]),
    class: CKO.secretKey,
    type: CKK.aes,
  };
}

/** Adds optional steps that prove which key it is; returns the function that reads the proofs from the reply. */
export function addProofs(
  builder: JobBuilder,
  salt: Uint8Array,
  key: ObjectRef,
  description: Description = domainDescription(),
): (reply: JobReply) => Map<ProofKind, Uint8Array> {
  const asked = comparedProvers(description, salt).map((prover) => {
    const at = builder.steps.length;
    builder.add(...prover.steps(key, at).map(optional));
    return { prover, at };
  });
  return (reply) => {
    const proofs = asked.map(({ prover, at }) => [prover.kind, prover.read(reply, at)] as const);
    return new Map(proofs.filter(([, proof]) => proof.length > 0));
  };
}

/** Domain key that was just generated: its note, and its wrapped forms for the members by serial. */
export interface GeneratedDomainKey {
  readonly note: DomainNote;
  readonly forms: ReadonlyMap<string, Uint8Array>;
}

/** Attributes of a domain key that state its use. */
export const domainUse: readonly Attribute[] = flags({
  ...noUse,
  WRAP: true,
  UNWRAP: true,
  PRIVATE: true,
  SENSITIVE: true,
});

/**
 * Generates a domain key on one member as a session object, wraps it under the transport key of every member, including
 * members that are away, and destroys it.
 */
export function* generateDomainKey(
  group: Group,
  generatingMember: Member,
  id: Uint8Array,
  salt: Uint8Array,
  notes: readonly MemberNote[],
  deadline: number,
): Task<GeneratedDomainKey> {
  const builder = new JobBuilder();
  const generated = builder.add(
    step('C_GenerateKey', encodeMechanism('domain', 'AES_KEY_GEN'), [
      inSession,
      { type: CKA.valueLen, value: ulongBytes(32) },
      ...domainUse,
      { type: CKA.extractable, value: yes },
    ]),
  );
  const readProofs = addProofs(builder, salt, { step: generated });
  const wraps = notes.map((note) => {
    const key = builder.add(step('C_CreateObject', transportTemplate(note)));
    const at = builder.add(step('C_WrapKey', oaep, { step: key }, { step: generated }));
    builder.add(step('C_DestroyObject', { step: key }));
    return { serial: note.serial, at };
  });
  builder.add(step('C_DestroyObject', { step: generated }));
  const memberJob: MemberJob = { function: 'C_GenerateKey', objects: [], job: () => builder };
  const reply = yield* runOnMemberOrThrow(group, generatingMember, memberJob, deadline);
  return {
    note: { id: hex(id), proofs: noteProofs(readProofs(reply)) },
    forms: new Map(wraps.map(({ serial, at }) => [serial, new Uint8Array(resultOf(reply, at, 'C_WrapKey'))])),
  };
}

/** Template of a backup transfer key on a member: a session object for the length of one job. */
export const transferKeyTemplate: readonly Attribute[] = [
  { type: CKA.class, value: ulongBytes(CKO.secretKey) },
  { type: CKA.keyType, value: ulongBytes(CKK.aes) },
  inSession,
  ...domainUse,
  { type: CKA.extractable, value: no },
];

/** CKA_LABELs of the group's own keys on a token. */
export interface KeyLabels {
  readonly domain: string;
  readonly transport: string;
}

/** CKA_LABELs of the group's own keys on members. */
export const memberLabels: KeyLabels = { domain: DOMAIN_LABEL, transport: TRANSPORT_LABEL };

/** Returns the template that finds a domain key on a token. */
export function domainTemplate(id: string, label: string = DOMAIN_LABEL): readonly Attribute[] {
  return [...privateOnToken, ...domainIdentity(id, label)];
}

export function domainIdentity(id: string, label: string): readonly Attribute[] {
  return [
    { type: CKA.class, value: ulongBytes(CKO.secretKey) },
    { type: CKA.label, value: Buffer.from(label) },
    { type: CKA.id, value: fromHex(id) },
  ];
}

/** Returns the template that finds a token's private transport key on it. */
export function ownTransportTemplate({ transport }: MemberNote, label: string): readonly Attribute[] {
  return [
    ...privateOnToken,
    { type: CKA.class, value: ulongBytes(CKO.privateKey) },
    { type: CKA.label, value: Buffer.from(label) },
    { type: CKA.id, value: fromHex(transport) },
  ];
}
