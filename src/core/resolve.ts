import { ck } from '../spec/constants.js';
import { verdictOn } from '../spec/verdict.js';
import type { Connection } from './connection.js';
import type { Group } from './group.js';
import { isProvenByIdentity, publicHalfTemplate, templateOf } from './identity.js';
import { type FoundReplica, readInventory } from './inventory.js';
import type { Member } from './member.js';
import type { ProofKind, VirtualObject } from './object.js';
import { Effort, type Failure, failureOf } from './outcome.js';
import { comparedProvers, mayBeProbed, type Prover, proves, signatureProver } from './proof.js';
import type { Replica, Resolution } from './replica.js';
import { FOREVER, type Task } from './task.js';

const generalError = ck('CKR_GENERAL_ERROR');

/** How long an absence is believed: somebody may have put the key there meanwhile. */
const ABSENCE_LIFETIME = 5000;
/** More objects of one name on one token are not looked through. */
const MOST_TWINS = 64;

class Resolving extends Effort implements Resolution {
  result: Replica | Failure | undefined;
}

/**
 * Finds a virtual object's replica on a member and proves, before it is used for the first time on that
 * connection, that it is the group's key (Rule 12). One search at a time; all who need it share it.
 */
export function resolve(group: Group, member: Member, connection: Connection, object: VirtualObject): Resolution {
  const running = connection.resolutions.get(object);
  if (running !== undefined) return running;
  const resolution = new Resolving();
  resolution.epoch = connection.epoch;
  connection.resolutions.set(object, resolution);
  group.port.start(
    (function* (): Task<void> {
      try {
        resolution.result = yield* search(group, connection, object, resolution);
      } catch {
        // A token that answers outside of the standard must not take the call with it.
        resolution.result = { kind: 'code', function: 'C_FindObjects', code: generalError };
      } finally {
        connection.resolutions.delete(object);
        // What was found under a login that has been replaced meanwhile is void.
        if (resolution.epoch === connection.epoch) remember(group, member, connection, object, resolution.result);
        else resolution.result = { kind: 'withdrawn' };
        resolution.settle();
      }
    })(),
  );
  return resolution;
}

function remember(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  result: Replica | Failure | undefined,
): void {
  if (result === undefined) return;
  switch (result.kind) {
    case 'usable':
      connection.replicas.set(object, result);
      group.noteStanding(member, object, result.proven ? 'proven' : 'unproven');
      break;
    case 'misaligned':
    case 'absent':
      connection.replicas.set(object, result);
      group.noteStanding(member, object, result.kind);
      break;
    default:
      break;
  }
}

function* search(group: Group, connection: Connection, object: VirtualObject, effort: Effort): Task<Replica | Failure> {
  const identified = isProvenByIdentity(object.description);
  const candidates = yield* candidatesOn(connection, object, effort);
  if (candidates.kind !== 'candidates') return candidates;
  const { list } = candidates;
  const first = list[Math.min(object.ordinal, list.length - 1)];
  if (first === undefined) return { kind: 'absent', until: group.port.now() + ABSENCE_LIFETIME };
  if (identified) return { kind: 'usable', handle: first.handle, proven: true };
  if (!object.referenced) yield* establishReference(group, object, effort);
  // The reference may have been taken from this very connection.
  const replica = connection.replicas.get(object);
  if (replica?.kind === 'usable') return replica;
  if (!object.referenced) return { kind: 'deferred' };
  const matches: FoundReplica[] = [];
  const unproven: FoundReplica[] = [];
  for (const candidate of list) {
    const comparison = yield* compare(group, connection, object, candidate, effort);
    if (typeof comparison !== 'string') return comparison;
    if (comparison === 'same') matches.push(candidate);
    if (comparison === 'unknown') unproven.push(candidate);
  }
  const match = matches[Math.min(object.ordinal, matches.length - 1)];
  if (match !== undefined) return { kind: 'usable', handle: match.handle, proven: true };
  // Of several that nothing can be proven of, none may be guessed.
  const [only] = unproven;
  if (only !== undefined && unproven.length === 1) return { kind: 'usable', handle: only.handle, proven: false };
  return { kind: 'misaligned' };
}

type Candidates = { readonly kind: 'candidates'; readonly list: readonly FoundReplica[] } | Failure;

function* candidatesOn(connection: Connection, object: VirtualObject, effort: Effort): Task<Candidates> {
  const inventory = yield* readInventory(connection, templateOf(object.description), MOST_TWINS, FOREVER, effort);
  if (inventory.kind !== 'objects') return inventory;
  return {
    kind: 'candidates',
    list: inventory.objects.filter(({ identity }) => Buffer.compare(identity, object.identity) === 0),
  };
}

/** Runs a proof; undefined when the token cannot do it that way, a failure when it did not do it this time. */
function* run(
  group: Group,
  connection: Connection,
  prover: Prover,
  key: FoundReplica,
  effort: Effort,
): Task<Uint8Array | undefined | Failure> {
  const outcome = yield* connection.run(prover.job(key.handle), `proof:${prover.kind}`, FOREVER, effort);
  const failure = failureOf(outcome);
  if (outcome.kind === 'reply' && failure === undefined) {
    const proof = prover.read(outcome.reply);
    return proof.length === 0 ? undefined : proof;
  }
  if (failure?.kind === 'code') {
    const verdict = verdictOn(failure.code, group.policy.verdicts);
    if (verdict === 'caller' || verdict === 'mechanism') return undefined;
  }
  return failure;
}

/** Some tokens say GENERAL_ERROR to what they cannot do: taken for that where another way may do. */
function isAmbiguous(group: Group, failure: Failure): boolean {
  return failure.kind === 'code' && verdictOn(failure.code, group.policy.verdicts) === 'ambiguous';
}

function isFailure(value: unknown): value is Failure {
  return typeof value === 'object' && value !== null && 'kind' in value;
}

function* compare(
  group: Group,
  connection: Connection,
  object: VirtualObject,
  candidate: FoundReplica,
  effort: Effort,
): Task<'same' | 'different' | 'unknown' | Failure> {
  if (!mayBeProbed(object.description)) return 'unknown';
  // A token that does not say this time what it could say proves nothing, and is no reason to trust it.
  let unsaid: Failure | undefined;
  const point = object.reference.get('signature');
  if (point !== undefined) {
    const signed = yield* checkSignature(group, connection, candidate, [point], effort);
    if (isFailure(signed)) unsaid = signed;
    else if (signed !== undefined) return signed.length > 0 ? 'same' : 'different';
  }
  for (const prover of comparedProvers(object.description, group.salt)) {
    const expected = object.reference.get(prover.kind);
    if (expected === undefined) continue;
    const proof = yield* run(group, connection, prover, candidate, effort);
    if (isFailure(proof)) unsaid = proof;
    if (proof === undefined || isFailure(proof)) continue;
    if (Buffer.compare(proof, expected) !== 0) return 'different';
    if (proves(prover.kind)) return 'same';
  }
  return unsaid ?? 'unknown';
}

/** Has the key sign a fresh challenge; gives those of the points that it verifies with, undefined if it cannot sign. */
function* checkSignature(
  group: Group,
  connection: Connection,
  candidate: FoundReplica,
  points: readonly Uint8Array[],
  effort: Effort,
): Task<readonly Uint8Array[] | undefined | Failure> {
  const { port } = group;
  const { description } = candidate;
  const message = port.sha256(Buffer.concat([group.salt, port.randomBytes(32)]));
  const prover = signatureProver(description, message, (bytes) => port.sha256(bytes));
  if (prover === undefined) return undefined;
  const signature = yield* run(group, connection, prover, candidate, effort);
  if (signature === undefined || isFailure(signature)) return signature;
  const checks = points.map((point) => ({
    point,
    valid: port.verifySignature({ keyType: description.type, params: description.ecParams, point }, message, signature),
  }));
  if (checks.some(({ valid }) => valid === undefined)) return undefined;
  return checks.filter(({ valid }) => valid === true).map(({ point }) => point);
}

/**
 * Takes the group's fingerprint of an object from the first member, in the configuration's order, that is
 * in service and has it. So every process takes it from the same member, and of two keys that share a name
 * the one on the later member is the one that is not used.
 */
function* establishReference(group: Group, object: VirtualObject, effort: Effort): Task<void> {
  let referencing = group.referencing.get(object);
  if (referencing === undefined) {
    referencing = new Effort();
    group.referencing.set(object, referencing);
    group.port.start(takeReference(group, object, referencing));
  }
  while (!referencing.settled) {
    if (referencing.late) effort.markLate();
    yield { signals: [referencing], until: FOREVER };
  }
}

function* takeReference(group: Group, object: VirtualObject, referencing: Effort): Task<void> {
  try {
    const inService = group.members.filter((member) => member.isActive);
    for (const member of inService.length > 0 ? inService : group.members) {
      const { connection } = member;
      if (connection === undefined || connection.end !== undefined) continue;
      const taking = group.port.start(takeReferenceFrom(group, member, connection, object, referencing));
      const { name } = member.state;
      while (!taking.settled && member.state.name === name) {
        yield { signals: [taking, group.changed], until: FOREVER };
      }
      if (!taking.settled) taking.cancel(undefined);
      const taken = taking.ended?.ok === true ? taking.ended.value : 'failed';
      if (taken === 'taken') return;
      // Not the next one's: while this member is in service, it may hold the group's key.
      if (taken === 'failed' && member.isActive) {
        member.suspect(connection, 'a key could not be proven there');
        return;
      }
    }
  } finally {
    group.referencing.delete(object);
    referencing.settle();
  }
}

/** Jobs with handles of one connection's login, for somebody who waits for several. */
class PartEffort extends Effort {
  constructor(
    readonly whole: Effort,
    connection: Connection,
  ) {
    super();
    this.epoch = connection.epoch;
  }

  override markLate(): void {
    super.markLate();
    this.whole.markLate();
  }
}

function* takeReferenceFrom(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  referencing: Effort,
): Task<'taken' | 'absent' | 'failed'> {
  const effort = new PartEffort(referencing, connection);
  const candidates = yield* candidatesOn(connection, object, effort);
  if (candidates.kind !== 'candidates') return 'failed';
  const [candidate] = candidates.list;
  // Of twins that came after the object was met, none may be guessed to be it.
  if (candidate === undefined || candidates.list.length > 1) return 'absent';
  const proofs = yield* proofsOf(group, connection, candidate, effort);
  if (isFailure(proofs)) return 'failed';
  for (const [kind, proof] of proofs) object.reference.set(kind, proof);
  object.referenced = true;
  const proven = [...proofs.keys()].some(proves);
  if (effort.epoch === connection.epoch) {
    remember(group, member, connection, object, { kind: 'usable', handle: candidate.handle, proven });
  }
  return 'taken';
}

/** All that can be proven of a replica: its fingerprint. */
export function* proofsOf(
  group: Group,
  connection: Connection,
  candidate: FoundReplica,
  effort: Effort,
): Task<ReadonlyMap<ProofKind, Uint8Array> | Failure> {
  const proofs = new Map<ProofKind, Uint8Array>();
  if (!mayBeProbed(candidate.description)) return proofs;
  for (const prover of comparedProvers(candidate.description, group.salt)) {
    const proof = yield* run(group, connection, prover, candidate, effort);
    if (isFailure(proof) && !isAmbiguous(group, proof)) return proof;
    if (proof !== undefined && !isFailure(proof)) proofs.set(prover.kind, proof);
  }
  if (signatureProver(candidate.description, group.salt, (bytes) => bytes) !== undefined) {
    const halves = yield* readInventory(
      connection,
      publicHalfTemplate(candidate.description),
      MOST_TWINS,
      FOREVER,
      effort,
    );
    if (halves.kind !== 'objects') return halves;
    const points = halves.objects.map(({ description }) => description.ecPoint);
    const valid = points.length === 0 ? undefined : yield* checkSignature(group, connection, candidate, points, effort);
    if (isFailure(valid) && !isAmbiguous(group, valid)) return valid;
    const [point] = isFailure(valid) ? [] : (valid ?? []);
    if (point !== undefined) proofs.set('signature', point);
  }
  return proofs;
}
