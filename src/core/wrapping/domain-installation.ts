import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import { CKA, CKK, CKR } from '../../spec/codes.js';
import { optional, resultOf, step } from '../../spec/job.js';
import { sameBytes } from '../base/bytes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runOnMemberOrThrow, runToEnd } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { inSession, JobBuilder, withAttribute } from '../jobs/job-builder.js';
import { oaep } from '../jobs/key-wrapping.js';
import { findingJob, type Login, type MemberJob } from '../jobs/member-job.js';
import type { ProofKind } from '../objects/key-note.js';
import { proofsIn } from '../objects/note.js';
import type { DomainNote, MemberNote } from '../records/record.js';
import {
  addProofs,
  domainIdentity,
  domainTemplate,
  domainUse,
  type KeyLabels,
  memberLabels,
  ownTransportTemplate,
} from './domain-key.js';

/** Maximum number of keys of one name that are tried: normally there is one, and others may have put more there. */
const MOST_CANDIDATES = 16;

/** Domain key that is wrapped for one member. */
export interface WrappedDomainKey {
  /** Transport key under which it is wrapped. */
  readonly transport: MemberNote;
  readonly note: DomainNote;
  readonly form: Uint8Array;
  /** Salt of its proofs. */
  readonly salt: Uint8Array;
}

/** Real handle of a key, with the login that the handle belongs to. */
interface LocatedKey {
  readonly handle: Uint8Array;
  readonly login: Login;
}

/** Returns true if proofs that a token gave are those that are expected; a token may not be able to give all. */
function areExpected(found: ReadonlyMap<ProofKind, Uint8Array>, { proofs }: DomainNote): boolean {
  return [...proofsIn(proofs)].every(([kind, proof]) => {
    const given = found.get(kind);
    return given === undefined || sameBytes(given, proof);
  });
}

function* locate(
  group: Group,
  member: Member,
  template: readonly Attribute[],
  deadline: number,
): Task<readonly LocatedKey[]> {
  const end = yield* runToEnd(group, member, findingJob(template, MOST_CANDIDATES), deadline);
  return resultOf(end.reply, 0, 'X_Find').map(({ handle }) => ({ handle: new Uint8Array(handle), login: end.login }));
}

/**
 * Tells whether a member has the domain key of a note: a key of its name counts only if it gives the proofs of the note.
 */
export function* holdsDomainKey(
  group: Group,
  member: Member,
  note: DomainNote,
  salt: Uint8Array,
  deadline: number,
  label: string = memberLabels.domain,
): Task<boolean> {
  for (const { handle, login } of yield* locate(group, member, domainTemplate(note.id, label), deadline)) {
    const builder = new JobBuilder();
    const readProofs = addProofs(builder, salt, handle);
    const proving: MemberJob = { function: 'C_DigestKey', objects: [], isReading: true, login, job: () => builder };
    if (areExpected(readProofs(yield* runOnMemberOrThrow(group, member, proving, deadline)), note)) return true;
  }
  return false;
}

function domainKeyTemplate({ id }: DomainNote, label: string): readonly Attribute[] {
  return [
    ...domainIdentity(id, label),
    { type: CKA.keyType, value: ulongBytes(CKK.aes) },
    ...domainUse,
    { type: CKA.extractable, value: Uint8Array.of(0) },
  ];
}

/**
 * Finds the transport key with which a member's token unwraps a domain key as the key that its note tells; undefined if
 * there is none. The unwrapped key is a session object, and is destroyed.
 */
export function* findTransport(
  group: Group,
  member: Member,
  { transport, note, form, salt }: WrappedDomainKey,
  deadline: number,
  labels: KeyLabels = memberLabels,
): Task<LocatedKey | undefined> {
  const template = withAttribute(domainKeyTemplate(note, labels.domain), inSession);
  for (const located of yield* locate(group, member, ownTransportTemplate(transport, labels.transport), deadline)) {
    const builder = new JobBuilder();
    const made = builder.add(optional(step('C_UnwrapKey', oaep, located.handle, form, template)));
    const readProofs = addProofs(builder, salt, { step: made });
    builder.add(optional(step('C_DestroyObject', { step: made })));
    const trying: MemberJob = {
      function: 'C_UnwrapKey',
      objects: [],
      isReading: true,
      login: located.login,
      job: () => builder,
    };
    const reply = yield* runOnMemberOrThrow(group, member, trying, deadline);
    if (reply.results[made]?.code === 0 && areExpected(readProofs(reply), note)) return located;
  }
  return undefined;
}

/**
 * Installs a domain key on a member as a key that is not extractable and can only wrap and unwrap; does nothing if the
 * member has it.
 */
export function* installDomainKey(
  group: Group,
  member: Member,
  wrapped: WrappedDomainKey,
  deadline: number,
  labels: KeyLabels = memberLabels,
): Task<void> {
  const { note, form, salt } = wrapped;
  if (yield* holdsDomainKey(group, member, note, salt, deadline, labels.domain)) return;
  const transport = yield* findTransport(group, member, wrapped, deadline, labels);
  if (transport === undefined)
    refuse(CKR.deviceError, `the token of ${member.name} does not unwrap the domain key as that key`);
  const template = withAttribute(domainKeyTemplate(note, labels.domain), inSession);
  const builder = new JobBuilder();
  builder.persist({ step: builder.add(step('C_UnwrapKey', oaep, transport.handle, form, template)) });
  const installing: MemberJob = {
    function: 'C_UnwrapKey',
    objects: [],
    login: transport.login,
    job: () => builder,
  };
  yield* runOnMemberOrThrow(group, member, installing, deadline);
}
