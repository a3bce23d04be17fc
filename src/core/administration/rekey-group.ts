import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import { learnLatest } from '../wrapping/group-record-reading.js';
import { recordOf, renewDomainKey, resealAndRetire, retireLater, runClaimed, servingMembersOf } from './membership.js';

/** Result of `rekeyGroup`. */
export interface RekeyReport {
  /** CKA_ID of the new domain key, in hexadecimal. */
  readonly domain: string;
  /** Public key whose private half has signed the record, in hexadecimal. */
  readonly publicKey: string;
}

/**
 * Gives the group a new domain key, seals the sealed keys under it, and signs the record with the configured
 * administration key, which may be a new one. Every member must serve. Can be repeated after an interruption.
 */
export function* rekeyGroup(group: Group, deadline: number): Task<RekeyReport> {
  recordOf(group);
  return yield* runClaimed(group, deadline, () => rekeyExclusively(group, deadline));
}

function* rekeyExclusively(group: Group, deadline: number): Task<RekeyReport> {
  yield* learnLatest(group, deadline);
  yield* servingMembersOf(group, recordOf(group).members, deadline);
  yield* renewDomainKey(group, ({ members }) => ({ members }), deadline);
  yield* resealAndRetire(group, deadline);
  retireLater(group);
  const { domain, signature } = recordOf(group);
  return { domain: domain.id, publicKey: signature?.key ?? '' };
}
