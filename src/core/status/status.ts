import type { ObjectSummary } from '../base/event.js';
import { reasonOf, type StateName } from '../base/state.js';
import type { Group } from '../group/group.js';
import { isInStep } from '../group/in-step.js';
import type { Member } from '../group/member.js';
import type { ReplicaStatus } from '../objects/object.js';

/** Status of a member, as this process knows it. */
export interface MemberStatus {
  readonly name: string;
  readonly state: StateName;
  /** Reason for the state; empty if the member is well. */
  readonly reason: string;
  /** Time in that state (ms). */
  readonly since: number;
  /** Serial of the token, from the token, the configuration or the group record; undefined if none tells it. */
  readonly serial: string | undefined;
  /** Process id of the member's host. */
  readonly pid: number | undefined;
  /** Number of jobs out at its host or waiting for it. */
  readonly outstanding: number;
  readonly lanes: number;
  /** Duration of its operations relative to the group's average; 1 is average. */
  readonly slowness: number;
  /** Number of changes that it is known to have missed; the member catches up before it serves. */
  readonly behind: number;
  /** Time until the next try to join (ms); 0 if the member is not down. */
  readonly retryIn: number;
}

/** Object that some member lacks or has another key for, with its status on the members that were asked. */
export interface DriftStatus extends ObjectSummary {
  readonly standings: Readonly<Record<string, ReplicaStatus>>;
}

/** Status of the group, as this process knows it. */
export interface GroupStatus {
  readonly label: string;
  readonly serial: string;
  readonly members: readonly MemberStatus[];
  /** Problem of the coordination among processes that an operator must mend; undefined if there is none. */
  readonly problem: string | undefined;
  /**
   * True if the administration key has signed the group's record, false if no key that this process knows has; undefined
   * without a record.
   */
  readonly isSigned: boolean | undefined;
  /**
   * True if two members that serve, or are suspects, have every change, or if the group has one member only. False: what
   * the group holds is what one member says.
   */
  readonly isConfirmed: boolean;
  /** Objects known to this process that some member lacks, or has another key for. */
  readonly drift: readonly DriftStatus[];
  /** Objects whose replica on some member could not be proven. */
  readonly unproven: readonly ObjectSummary[];
  readonly counters: {
    readonly calls: number;
    readonly failovers: number;
    readonly hedged: number;
    readonly quarantined: number;
  };
}

function serialOf({ ledger }: Group, { name, serial, config }: Member): string | undefined {
  return serial ?? config.token.serial ?? ledger.record?.members.find((note) => note.name === name)?.serial;
}

function isConfirmed(group: Group): boolean {
  const inStep = group.members.filter((member) => isInStep(group, member));
  return inStep.length > 1 || (group.ledger.record?.members.length ?? group.members.length) === 1;
}

/** Returns the group's status as this process knows it; asks no member. */
export function statusOf(group: Group): GroupStatus {
  const now = group.port.now();
  const drift: DriftStatus[] = [];
  const unproven: ObjectSummary[] = [];
  for (const object of group.objects.values()) {
    const standings = [...object.replicaStatus.values()];
    if (standings.includes('absent') || standings.includes('misaligned')) {
      drift.push({ ...object.summary, standings: Object.fromEntries(object.replicaStatus) });
    }
    if (standings.includes('unproven')) unproven.push(object.summary);
  }
  return {
    label: group.label,
    serial: group.serial,
    members: group.members.map((member) => ({
      name: member.name,
      state: member.state.name,
      reason: reasonOf(member.state),
      since: now - member.state.since,
      serial: serialOf(group, member),
      pid: member.connection?.pid,
      outstanding: member.connection?.load ?? 0,
      lanes: member.connection?.lanes ?? 0,
      slowness: member.slowness,
      behind: group.missed.count(serialOf(group, member) ?? ''),
      retryIn: member.state.name === 'down' ? Math.max(0, member.state.retryAt - now) : 0,
    })),
    problem: group.coordinator.problem,
    isSigned: group.ledger.record === undefined ? undefined : group.ledger.isSigned,
    isConfirmed: isConfirmed(group),
    drift,
    unproven,
    counters: { ...group.counters },
  };
}
