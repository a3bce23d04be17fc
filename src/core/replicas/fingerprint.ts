import type { Job } from '../../spec/job.js';
import { verdictOn } from '../../spec/verdict.js';
import { sameBytes } from '../base/bytes.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, failureOf, isFailure, type PendingWork } from '../group/job-outcome.js';
import { comparedProvers, mayBeProbed, type Prover, proves, publicMaterialOf, signatureProver } from '../jobs/proof.js';
import type { FoundReplica } from '../objects/found-object.js';
import { publicHalfTemplate } from '../objects/identity.js';
import type { ProofKind } from '../objects/key-note.js';
import type { VirtualObject } from '../objects/object.js';
import { MOST_TWINS, readInventory } from './inventory.js';

/** Runs a prover; returns the proof, undefined if the token cannot do it this way, or the failure of this try. */
function* prove(
  group: Group,
  connection: Connection,
  prover: Prover,
  key: FoundReplica,
  work: PendingWork,
): Task<Uint8Array | undefined | Failure> {
  const job: Job = { steps: prover.steps(key.handle, 0) };
  const outcome = yield* connection.run(job, `proof:${prover.kind}`, FOREVER, work);
  const failure = failureOf(outcome);
  if (outcome.kind === 'reply' && failure === undefined) {
    const proof = prover.read(outcome.reply, 0);
    return proof.length === 0 ? undefined : proof;
  }
  if (failure?.kind === 'code') {
    const verdict = verdictOn(failure.code, group.policy.verdicts);
    if (verdict === 'caller' || verdict === 'mechanism') return undefined;
  }
  return failure;
}

/** Returns true for codes such as CKR_GENERAL_ERROR, with which some tokens answer calls that they do not support. */
function isAmbiguous(group: Group, failure: Failure): boolean {
  return failure.kind === 'code' && verdictOn(failure.code, group.policy.verdicts) === 'ambiguous';
}

/** Compares a replica with the group's fingerprint of an object (Rule 12). */
export function* compare(
  group: Group,
  connection: Connection,
  object: VirtualObject,
  candidate: FoundReplica,
  work: PendingWork,
): Task<'same' | 'different' | 'unknown' | Failure> {
  if (!mayBeProbed(object.description)) return 'unknown';
  // A failed prover proves nothing; if no other prover decides, its failure is the result.
  let failure: Failure | undefined;
  const point = object.reference.get('signature');
  if (point !== undefined) {
    const signed = yield* checkSignature(group, connection, candidate, [point], work);
    if (isFailure(signed)) failure = signed;
    else if (signed !== undefined) return signed.length > 0 ? 'same' : 'different';
  }
  for (const prover of comparedProvers(object.description, group.salt)) {
    const expected = object.reference.get(prover.kind);
    if (expected === undefined) continue;
    const proof = yield* prove(group, connection, prover, candidate, work);
    if (isFailure(proof)) failure = proof;
    if (proof === undefined || isFailure(proof)) continue;
    if (!sameBytes(proof, expected)) return 'different';
    if (proves(prover.kind)) return 'same';
  }
  return failure ?? 'unknown';
}

/** Has the key sign a fresh challenge; returns the points that verify it, undefined if that cannot be told. */
function* checkSignature(
  group: Group,
  connection: Connection,
  candidate: FoundReplica,
  points: readonly Uint8Array[],
  work: PendingWork,
): Task<readonly Uint8Array[] | undefined | Failure> {
  const { port } = group;
  const { description } = candidate;
  const message = port.sha256(Buffer.concat([group.salt, port.randomBytes(32)]));
  const prover = signatureProver(description, message, (bytes) => port.sha256(bytes));
  if (prover === undefined) return undefined;
  const signature = yield* prove(group, connection, prover, candidate, work);
  if (signature === undefined || isFailure(signature)) return signature;
  const checks = points.map((point) => ({
    point,
    valid: port.verifySignature(publicMaterialOf(description, point), message, signature),
  }));
  if (checks.some(({ valid }) => valid === undefined)) return undefined;
  return checks.filter(({ valid }) => valid === true).map(({ point }) => point);
}

/** Returns the fingerprint of a replica: all proofs that the token gives. */
export function* proofsOf(
  group: Group,
  connection: Connection,
  candidate: FoundReplica,
  work: PendingWork,
): Task<ReadonlyMap<ProofKind, Uint8Array> | Failure> {
  const proofs = new Map<ProofKind, Uint8Array>();
  if (!mayBeProbed(candidate.description)) return proofs;
  for (const prover of comparedProvers(candidate.description, group.salt)) {
    const proof = yield* prove(group, connection, prover, candidate, work);
    if (isFailure(proof) && !isAmbiguous(group, proof)) return proof;
    if (proof !== undefined && !isFailure(proof)) proofs.set(prover.kind, proof);
  }
  if (signatureProver(candidate.description, group.salt, (bytes) => bytes) !== undefined) {
    const halves = yield* readInventory(
      connection,
      publicHalfTemplate(candidate.description),
      MOST_TWINS,
      FOREVER,
      work,
    );
    if (halves.kind !== 'objects') return halves;
    const points = halves.objects.map(({ publicPoint }) => publicPoint);
    const valid = points.length === 0 ? undefined : yield* checkSignature(group, connection, candidate, points, work);
    if (isFailure(valid) && !isAmbiguous(group, valid)) return valid;
    const [point] = isFailure(valid) ? [] : (valid ?? []);
    if (point !== undefined) proofs.set('signature', point);
  }
  return proofs;
}
