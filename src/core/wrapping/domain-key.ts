import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import type { ObjectRef } from '../../spec/calls.js';
import { CKA, CKK, CKO, CKR } from '../../spec/codes.js';
import { type JobReply, optional, resultOf, step } from '../../spec/job.js';
import { encodeMechanism } from '../../spec/mechanism.js';
import { sameBytes } from '../base/bytes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { inSession, JobBuilder, onToken, withAttribute } from '../jobs/job-builder.js';
import { oaep, transportTemplate } from '../jobs/key-wrapping.js';
import type { MemberJob } from '../jobs/member-job.js';
import { comparedProvers } from '../jobs/proof.js';
import { type Description, describe, describedTypes } from '../objects/identity.js';
import type { ProofKind } from '../objects/key-note.js';
import { fromHex, hex, noteProofs, proofsIn } from '../objects/note.js';
import { flags } from '../objects/template-flags.js';
import { DOMAIN_LABEL, TRANSPORT_LABEL } from '../records/ledger.js';
import type { DomainNote, MemberNote } from '../records/record.js';

const TRANSPORT_BITS = 3072;

const yes = Uint8Array.of(1);
const no = Uint8Array.of(0);

/** Everything stated: what is left open, tokens fill in as they like. */
const noUse = { ENCRYPT: false, DECRYPT: false, SIGN: false, VERIFY: false, DERIVE: false, WRAP: false, UNWRAP: false };

/** The key pair that keys travel to a member under: it never leaves it. */
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

/** Adds the steps that prove which key it is; gives what reads the proofs. */
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

/** A domain key as it was born: what proves it, and its forms wrapped for the members, by their serials. */
export interface GeneratedDomainKey {
  readonly note: DomainNote;
  readonly forms: ReadonlyMap<string, Uint8Array>;
}

const domainUse: readonly Attribute[] = flags({ ...noUse, WRAP: true, UNWRAP: true, PRIVATE: true, SENSITIVE: true });

/**
 * Makes a domain key: born on one member as a session object, wrapped once for each under its transport key, also
 * for those that are away, and let go of again.
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

/** What such a key is made with where it lasts no longer than a job. */
export const transferKeyTemplate: readonly Attribute[] = [
  { type: CKA.class, value: ulongBytes(CKO.secretKey) },
  { type: CKA.keyType, value: ulongBytes(CKK.aes) },
  inSession,
  ...domainUse,
  { type: CKA.extractable, value: no },
];

/** What a token's own keys are called. */
export interface KeyLabels {
  readonly domain: string;
  readonly transport: string;
}

const memberLabels: KeyLabels = { domain: DOMAIN_LABEL, transport: TRANSPORT_LABEL };

/**
 * Installs a domain key on a member as a key that cannot be taken out and can do nothing but wrap and unwrap; does
 * nothing where it is already.
 */
export function* installDomainKey(
  group: Group,
  member: Member,
  transport: MemberNote,
  { id, proofs: expected }: DomainNote,
  form: Uint8Array,
  salt: Uint8Array,
  deadline: number,
  labels: KeyLabels = memberLabels,
): Task<void> {
  const find: MemberJob = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [step('X_Find', domainTemplate(id, labels.domain), 1, [])] }),
  };
  if (resultOf(yield* runOnMemberOrThrow(group, member, find, deadline), 0, 'X_Find').length > 0) return;
  const template: readonly Attribute[] = [
    ...domainTemplate(id, labels.domain),
    { type: CKA.keyType, value: ulongBytes(CKK.aes) },
    ...domainUse,
    { type: CKA.extractable, value: no },
  ];
  const builder = new JobBuilder();
  const key = builder.add(step('X_Find', ownTransportTemplate(transport, labels.transport), 1, []));
  const made = builder.add(step('C_UnwrapKey', oaep, { step: key }, form, withAttribute(template, inSession)));
  const readProofs = addProofs(builder, salt, { step: made });
  builder.persist({ step: made });
  const memberJob: MemberJob = { function: 'C_UnwrapKey', objects: [], job: () => builder };
  const proofs = readProofs(yield* runOnMemberOrThrow(group, member, memberJob, deadline));
  for (const [kind, proof] of proofsIn(expected)) {
    const found = proofs.get(kind);
    if (found !== undefined && !sameBytes(found, proof))
      refuse(CKR.deviceError, `the domain key came out as another one on ${member.name}`);
  }
}

/** Finds a domain key on a token. */
export function domainTemplate(id: string, label: string = DOMAIN_LABEL): readonly Attribute[] {
  return [
    { type: CKA.class, value: ulongBytes(CKO.secretKey) },
    { type: CKA.label, value: Buffer.from(label) },
    { type: CKA.id, value: fromHex(id) },
  ];
}

/** Finds the private half of a token's transport key on it. */
export function ownTransportTemplate({ transport }: MemberNote, label: string): readonly Attribute[] {
  return [
    { type: CKA.class, value: ulongBytes(CKO.privateKey) },
    { type: CKA.label, value: Buffer.from(label) },
    { type: CKA.id, value: fromHex(transport) },
  ];
}
