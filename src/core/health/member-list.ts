import type { MemberConfig } from '../configuration/configuration.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { hasUnneeded, shortenJournals } from '../recovery/journal.js';
import { keepMember } from './health.js';

/** Keeps all members in service from now on, and their journals short. */
export function keepAll(group: Group): void {
  group.onRecordsRead = (records) => {
    if (hasUnneeded(group, records)) shortenJournals(group);
  };
  for (const member of group.members) keep(group, member);
}

/** Keeps a member in service from now on. */
function keep(group: Group, member: Member): void {
  const running = group.port.start(keepMember(group, member));
  if (running.completed) return;
  group.keepers.set(member, running);
  running.add({
    wake: () => {
      if (!group.keepers.delete(member)) return;
      group.members = group.members.filter((other) => other !== member);
      // It only ends when the member is dismissed or the group closes; anything else is a fault of ours.
      if (running.ended?.ok === false && running.ended.error !== undefined) group.port.warn(running.ended.error);
      group.changed.fire();
    },
  });
}

/** Takes a new member in; whether its token is one of the group's is found out when it joins. */
export function addToList(group: Group, config: MemberConfig, isApplicant = false): Member {
  const member = group.makeMember(config);
  if (isApplicant) member.role.beginAdding();
  group.members = [...group.members, member];
  keep(group, member);
  return member;
}

/** Lets a member go: it finishes what is running. */
export function removeFromList(member: Member, reason: string): void {
  member.role.remove(reason);
  member.ordersChanged.fire();
  member.suspicion.fire();
}

/** Takes up which members are configured by now: those that are new, gone, or configured in another way. */
export function applyConfiguration(group: Group, configs: readonly MemberConfig[]): void {
  for (const member of group.members) {
    const config = configs.find(({ name }) => name === member.name);
    if (member.role.removedFor !== undefined || member.role.isBeingAdded) continue;
    if (config === undefined) removeFromList(member, 'it is no longer configured');
    else if (isSameToken(config, member.config)) {
      member.config = config;
      member.ordersChanged.fire();
      member.suspicion.fire();
    } else removeFromList(member, 'it is configured in another way');
  }
  for (const config of configs) {
    const known = group.members.find(({ name, role }) => name === config.name && role.removedFor === undefined);
    if (known === undefined) addToList(group, config);
  }
  const place = new Map(configs.map(({ name }, index) => [name, index]));
  group.members = [...group.members].sort((a, b) => (place.get(a.name) ?? 64) - (place.get(b.name) ?? 64));
}

/** Whether a member can be used as it is now configured without another host. */
function isSameToken(one: MemberConfig, other: MemberConfig): boolean {
  const parts = ({ module, token, env, libraryParameters, lanes, exclusiveWrites }: MemberConfig): string =>
    JSON.stringify([module, token, Object.entries(env).sort(), libraryParameters, lanes, exclusiveWrites]);
  return parts(one) === parts(other);
}
