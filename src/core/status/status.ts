import type { ObjectSummary } from '../base/event.js';
import { reasonOf, type StateName } from '../base/state.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { ReplicaStatus } from '../objects/object.js';

export interface MemberStatus {
  readonly name: string;
  readonly state: StateName;
  /** Why it is where it is; empty when all is well. */
  readonly reason: string;
  /** How long it has been in that state, ms. */
  readonly since: number;
  /** The token's serial: as it was met, as it is configured, or as the group's record has it; undefined otherwise. */
  readonly serial: string | undefined;
  /** The member's host process. */
  readonly pid: number | undefined;
  /** Jobs out at its host or waiting for it. */
  readonly outstanding: number;
  readonly lanes: number;
  /** How long it takes compared with the group; 1 is average. */
  readonly slowness: number;
  /** Changes that it has missed, as far as this process knows: it makes them good before it serves. */
  readonly behind: number;
  /** ms until the next try to join; 0 when none is due. */
  readonly retryIn: number;
}

/** An object that is not in step, with how it stands on the members that it was looked for on. */
export interface DriftStatus extends ObjectSummary {
  readonly standings: Readonly<Record<string, ReplicaStatus>>;
}

export interface GroupStatus {
  readonly label: string;
  readonly serial: string;
  readonly members: readonly MemberStatus[];
  /** Objects that some member lacks, or holds another key for, as far as this process has met them. */
  readonly drift: readonly DriftStatus[];
  /** Objects of which nothing could be proven. */
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

/** A picture of the group as this process knows it; asks no member. */
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
    drift,
    unproven,
    counters: { ...group.counters },
  };
}
