import { compareWithOthers, fillMember } from './comparison.js';
import type { Group } from './group.js';
import type { Member } from './member.js';
import { announceFilled, bringUpToDate, learnRecord } from './membership-record.js';
import { Effort } from './outcome.js';
import { resolveKey } from './resolve.js';
import { type Settled, settle } from './settlement.js';
import { sweep } from './sweep.js';
import type { Task } from './task.js';

/** Before it serves, a member of a group with records does what it has missed. Ends with the reason when it cannot. */
export function* recover(group: Group, member: Member): Task<string | undefined> {
  const { port, ledger, isForming } = group;
  const { connection } = member;
  if (ledger.record === undefined || group.pin === undefined || isForming || connection === undefined) return undefined;
  member.move({ name: 'recovering', since: port.now() });
  const outdated = yield* bringUpToDate(group, member);
  if (outdated !== undefined) return outdated;
  const isFilling = ledger.isFilling(member.serial);
  if (isFilling) {
    const unfilled = yield* fillMember(group, member);
    if (unfilled !== undefined) return unfilled;
  }
  const settled = yield* settleAll(group, member);
  if (settled.reason !== undefined) return settled.reason;
  if (!isFilling && (member.hasServed || settled.done > 0)) {
    yield* compareWithOthers(group, member);
    const again = member.isUnsettled ? yield* settleAll(group, member) : settled;
    if (again.reason !== undefined) return again.reason;
  }
  connection.forgetSurvey();
  port.start(sweep(group, member, connection));
  // Session objects of the application live on the host that they were made on.
  for (const object of [...group.objects.values()]) {
    if (object.session === undefined || connection.end !== undefined) continue;
    yield* resolveKey(group, member, connection, object, new Effort());
  }
  if (connection.end !== undefined) return 'the host ended while it was settling';
  if (isFilling) yield* announceFilled(group, member);
  return judgeStaleness(group, member);
}

/** Settles it, and again, when a call has passed by meanwhile. */
function* settleAll(group: Group, member: Member): Task<Settled> {
  let done = 0;
  do {
    const settled = yield* settle(group, member);
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
