import { CKR } from '../../spec/codes.js';
import { type Job, optional, step } from '../../spec/job.js';
import { refuse } from '../base/error.js';
import type { Signal, Task } from '../base/task.js';
import { awaitCompletion, awaitResult, race, runTogether } from '../base/waiting.js';
import type { Claim, HeldClaim } from '../coordination/coordinator.js';
import { FIRST_FORMAT } from '../records/record.js';
import type { Group } from './group.js';
import { failureOf } from './job-outcome.js';
import type { Member } from './member.js';

/**
 * Work that one process at a time does: changes of the PIN or the membership, the journal, a member's recovery, the
 * making of a key that must be there once.
 */
export type ClaimedWork = 'pin' | 'membership' | 'journal' | `member ${string}` | `key ${number}`;

/** Time for the host of a member that does not serve to take a claim (ms). */
const PATIENCE = 100;

/** Names of a claim: its own, and the one that former versions take for the same work. */
interface ClaimNames {
  readonly name: string;
  readonly formerName: string | undefined;
}

function namesOf({ ledger }: Group, work: ClaimedWork): ClaimNames {
  const id = ledger.record?.id ?? '';
  const formerName = work === 'pin' ? `pkcs11-ha pin ${id}` : `pkcs11-ha ${id} ${work.replace(/^member /u, '')}`;
  // Former versions do not write in groups of a later format, and any user of the machine can take their claims.
  return { name: `${id} ${work}`, formerName: ledger.format > FIRST_FORMAT ? undefined : formerName };
}

/** Builds the job with which a host holds files' claims: they then last until the host has ended its work. */
export function holdingJob(paths: readonly string[]): Job {
  return { steps: paths.map((path) => step('X_HoldClaim', path)), sessionless: true };
}

function droppingJob(path: string): Job {
  return { steps: [optional(step('X_DropClaim', path))], sessionless: true };
}

/** Claim that this process and its hosts hold. */
class ClaimWithHosts implements HeldClaim {
  readonly #group: Group;
  readonly #claim: Claim;
  #isReleased = false;

  constructor(group: Group, claim: Claim) {
    this.#group = group;
    this.#claim = claim;
    group.claims.add(claim);
    claim.lost.add({ wake: () => this.release() });
  }

  get lost(): Signal {
    return this.#claim.lost;
  }

  get isHeld(): boolean {
    return !this.#isReleased;
  }

  /**
   * Has the hosts hold the claim too. Waits for each as long as a call may hang: a host that hangs is ended anyway. The
   * host of a member that does not serve is waited for a moment only. Refuses if a host cannot lock the claim's file.
   */
  *holdOnHosts(): Task<void> {
    const group = this.#group;
    const until = group.port.now() + group.policy.hangAfter;
    const patientUntil = Math.min(until, group.port.now() + PATIENCE);
    const job = holdingJob([this.#claim.path]);
    const hold = function* (member: Member): Task<void> {
      const { name, connection } = member;
      if (connection === undefined || connection.end !== undefined) return;
      const ticket = connection.submit(job, 'claim', until);
      const limit = (): number => (member.isServing ? until : patientUntil);
      while (!ticket.completed && group.port.now() < limit()) yield* race([ticket, group.changed], limit());
      if (ticket.outcome?.kind === 'reply' && failureOf(ticket.outcome) !== undefined)
        refuse(CKR.functionFailed, `the host of ${name} cannot lock the files in the lock folder`);
    };
    yield* runTogether(
      group,
      group.members.map((member) => hold(member)),
    );
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    const group = this.#group;
    group.claims.delete(this.#claim);
    // A write that waits in a host may begin until the claim would have expired. Hosts give a lost claim up by then.
    if (this.#claim.lost.completed) this.#claim.release();
    else group.port.start(this.#releaseAfterWrites());
  }

  /** Releases the claim when the writes that are out at the hosts have ended. */
  *#releaseAfterWrites(): Task<void> {
    const group = this.#group;
    const connections = group.members.flatMap(({ connection }) => connection ?? []);
    try {
      for (const write of connections.flatMap((connection) => connection.writesOut()))
        yield* awaitCompletion(group.port, write);
    } finally {
      const until = group.port.now() + group.policy.hangAfter;
      for (const connection of connections) connection.submit(droppingJob(this.#claim.path), 'claim', until);
      this.#claim.release();
    }
  }
}

/** Takes the claim of some work; undefined if another process has it at the deadline, or if the caller gives up. */
export function* takeClaim(
  group: Group,
  work: ClaimedWork,
  deadline: number,
  isGivenUp?: () => boolean,
): Task<HeldClaim | undefined> {
  const { name, formerName } = namesOf(group, work);
  const claim = yield* group.coordinator.claim(name, { deadline, isGivenUp, formerName });
  if (claim === undefined) return undefined;
  const held = new ClaimWithHosts(group, claim);
  let isTaken = false;
  try {
    yield* held.holdOnHosts();
    isTaken = true;
    return held;
  } finally {
    if (!isTaken) held.release();
  }
}

/** Describes the process that does some work; undefined if none does. */
export function holderOf(group: Group, work: ClaimedWork): string | undefined {
  const { name, formerName } = namesOf(group, work);
  return group.coordinator.holderOf(name, formerName);
}

/** Runs a task while claims last. If one is lost, ends the task and refuses with CKR_FUNCTION_FAILED. */
export function* whileClaimed<T>({ port }: Group, claims: readonly HeldClaim[], task: Task<T>): Task<T> {
  const running = port.start(task);
  const lost = claims.map((claim) => claim.lost);
  try {
    while (!running.completed && !lost.some(({ completed }) => completed)) yield* race([running, ...lost]);
    if (!running.completed)
      refuse(
        CKR.functionFailed,
        'this process stood still for so long that another one may have taken over; try again',
      );
    return yield* awaitResult(running);
  } finally {
    if (!running.completed) running.cancel(undefined);
  }
}
