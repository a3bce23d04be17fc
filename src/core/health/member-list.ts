import { CKR } from '../../spec/codes.js';
import type { MemberConfig } from '../configuration/configuration.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { hasUnneeded, shortenJournals } from '../recovery/journal.js';
import { removeOldTombstones } from '../recovery/tombstone-removal.js';
import { keepMember } from './health.js';

/** Starts to keep all members in service and their journals short. */
export function keepAll(group: Group): void {
  group.onRecordsRead = (records) => {
    if (hasUnneeded(group, records)) shortenJournals(group);
  };
  group.onDestroyed = () => removeOldTombstones(group);
  for (const member of group.members) keep(group, member);
}

/** Starts to keep a member in service. */
function keep(group: Group, member: Member): void {
  const running = group.port.start(keepMember(group, member));
  if (running.completed) return;
  group.keepers.set(member, running);
  running.add({
    wake: () => {
      if (!group.keepers.delete(member)) return;
      group.members = group.members.filter((other) => other !== member);
      // The task ends when the member is removed or the group closes; any other end is a fault of this program.
      if (running.ended?.ok === false && running.ended.error !== undefined) group.port.warn(running.ended.error);
      group.changed.fire();
    },
  });
}

/**
 * Adds a member to the list and starts to join it. `isBeingAdded`: its token may be outside the group until the group's
 * record names it.
 */
export function addToList(group: Group, config: MemberConfig, isBeingAdded = false): Member {
  const member = group.makeMember(config);
  if (isBeingAdded) member.role.beginAdding();
  group.members = [...group.members, member];
  keep(group, member);
  return member;
}

/** Orders a member to leave; the member finishes the jobs that are running. */
export function removeFromList(member: Member, reason: string): void {
  member.role.remove(reason);
  member.ordersChanged.fire();
  member.suspicion.fire();
}

/** Adds, removes and replaces members according to a new configuration. */
export function applyConfiguration(group: Group, configs: readonly MemberConfig[]): void {
  for (const member of group.members) {
    const config = configs.find(({ name }) => name === member.name);
    if (member.role.removedFor !== undefined || member.role.isBeingAdded) continue;
    if (config === undefined) removeFromList(member, 'the member is no longer configured');
    else if (isSameToken(config, member.config)) {
      member.config = config;
      member.ordersChanged.fire();
      member.suspicion.fire();
    } else removeFromList(member, 'the configuration of the member has changed');
  }
  for (const config of configs) {
    const known = group.members.find(({ name, role }) => name === config.name && role.removedFor === undefined);
    if (known === undefined) addToList(group, config);
  }
  // A member may have been refused since another one had its token.
  for (const { state, recovery, ordersChanged } of group.members) {
    if (state.name !== 'down' || state.code !== CKR.actionProhibited) continue;
    recovery.retryNow();
    ordersChanged.fire();
  }
  const order = new Map(configs.map(({ name }, index) => [name, index]));
  group.members = [...group.members].sort((a, b) => (order.get(a.name) ?? 64) - (order.get(b.name) ?? 64));
}

/** Returns true if a member can go on with its host under the new configuration. */
function isSameToken(one: MemberConfig, other: MemberConfig): boolean {
  const parts = ({ module, token, env, libraryParameters, lanes, exclusiveWrites }: MemberConfig): string =>
    JSON.stringify([module, token, Object.entries(env).sort(), libraryParameters, lanes, exclusiveWrites]);
  return parts(one) === parts(other);
}
