import { compareWithOthers, fillMember } from './comparison.js';
import type { Group } from './group.js';
import type { Member } from './member.js';
import { announceFilled, bringUpToDate, learnRecord } from './membership-record.js';
import { Effort } from './outcome.js';
import { resolveKey } from './resolve.js';
import { type Settled, settle } from './settlement.js';
import { sweep } from './sweep.js';
import type { Task } from './task.js';

/** Whoever else works on the same member is looked at again so often (ms). */
const LOOK_AGAIN = 25;

/** The right to make a member what it has to be: one process at a time, so that nothing is made twice. */
class Claim {
  readonly #release: (() => void) | undefined;

  constructor(
    readonly group: Group,
    readonly name: string,
  ) {
    this.#release = group.port.claim(name);
  }

  get isHeld(): boolean {
    return this.#release !== undefined;
  }

  release(): void {
    this.#release?.();
  }

  /** Waits until whoever holds it is done. */
  *await({ connection }: Member): Task<void> {
    const { port } = this.group;
    while (connection !== undefined && connection.end === undefined) {
      const release = port.claim(this.name);
      release?.();
      if (release !== undefined) return;
      yield { signals: [connection.ended], until: port.now() + LOOK_AGAIN };
    }
  }
}

/** Before it serves, a member of a group with records does what it has missed. Ends with the reason when it cannot. */
export function* recover(group: Group, member: Member): Task<string | undefined> {
  const { port, ledger, isForming } = group;
  const { record } = ledger;
  const { connection, serial } = member;
  if (record === undefined || group.pin === undefined || isForming || connection === undefined) return undefined;
  member.move({ name: 'recovering', since: port.now() });
  const claim = new Claim(group, `pkcs11-ha ${record.id} ${serial}`);
  try {
    const reason = yield* catchUp(group, member, claim.isHeld);
    if (reason === SOMEBODY_ELSE) yield* claim.await(member);
    if (reason !== undefined) return reason;
    port.start(sweep(group, member, connection));
    // Session objects of the application live on the host that they were made on.
    for (const object of [...group.objects.values()]) {
      if (object.session === undefined || connection.end !== undefined) continue;
      yield* resolveKey(group, member, connection, object, new Effort());
    }
    if (connection.end !== undefined) return 'the host ended while it was settling';
    return judgeStaleness(group, member);
  } finally {
    connection.forgetSurvey();
    claim.release();
  }
}

/** What another process is just doing is not done a second time, but looked at on a fresh host. */
const SOMEBODY_ELSE = 'another process is bringing it up to date';

function* catchUp(group: Group, member: Member, isClaimed: boolean): Task<string | undefined> {
  const { ledger } = group;
  const isFilling = ledger.isFilling(member.serial);
  if (!isClaimed && (isFilling || isBehind(group, member))) return SOMEBODY_ELSE;
  const outdated = yield* bringUpToDate(group, member);
  if (outdated !== undefined) return outdated;
  if (isFilling) {
    const unfilled = yield* fillMember(group, member);
    if (unfilled !== undefined) return unfilled;
  }
  const settled = yield* settleAll(group, member, isClaimed);
  if (settled.reason !== undefined) return settled.reason;
  if (isClaimed && !isFilling && (member.hasServed || settled.done > 0)) {
    yield* compareWithOthers(group, member);
    const again = member.isUnsettled ? yield* settleAll(group, member, isClaimed) : settled;
    if (again.reason !== undefined) return again.reason;
  }
  if (isFilling) yield* announceFilled(group, member);
  return undefined;
}

/** Whether its record of the group is older than the one that is known here. */
function isBehind({ ledger: { record } }: Group, { connection }: Member): boolean {
  const own = connection?.records?.group?.record;
  return record !== undefined && (own === undefined || own.revision < record.revision);
}

/** Settles it, and again, when a call has passed by meanwhile. */
function* settleAll(group: Group, member: Member, isClaimed: boolean): Task<Settled> {
  let done = 0;
  do {
    const settled = yield* settle(group, member, isClaimed ? undefined : SOMEBODY_ELSE);
    done += settled.done;
    if (settled.reason !== undefined) return { ...settled, done };
  } while (member.isUnsettled && member.connection?.end === undefined);
  return { reason: undefined, done };
}

/** Whether it misses changes that nobody can tell it just now. */
function judgeStaleness(group: Group, member: Member): string | undefined {
  const untold = member.serial === undefined ? 0 : group.missed.untold(member.serial, group.presentBut(member));
  member.staleFor =
    untold === 0 ? undefined : `it has missed ${untold} changes, and the members that know them are away`;
  return group.policy.stale === 'refuse' ? member.staleFor : undefined;
}

/** Whether a member's token still has an older record of the group than others. */
export function* isOutdated(group: Group, member: Member, deadline: number): Task<boolean> {
  if (!(yield* learnRecord(group, member, deadline))) return false;
  return member.revision < (group.ledger.record?.revision ?? 0);
}
