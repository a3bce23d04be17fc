import { expect, test } from '@jest/globals';
import { FOREVER } from '../../../src/core/base/task.js';
import type { Connection } from '../../../src/core/group/connection.js';
import type { Group } from '../../../src/core/group/group.js';
import type { Member } from '../../../src/core/group/member.js';
import { RecordScout } from '../../../src/core/health/record-scout.js';

/** Makes the scout of the only member of a group, whose record was last read long ago. */
function scoutOf(suspectedFor: string | undefined): RecordScout {
  const member = { isActive: true, suspectedFor, recovery: { revision: 1 } } as unknown as Member;
  const group = {
    port: { now: () => 60_000, random: () => 0 },
    ledger: { record: { revision: 1 } },
    policy: { freshness: 1000 },
    members: [member],
    isBeingCreated: false,
    recordReadAt: 0,
  } as unknown as Group;
  return new RecordScout(group, member, {} as Connection);
}

test('the record of the group is read again after a time', () => {
  expect(scoutOf(undefined)).toMatchObject({ isReadDue: true });
});

test('a suspect is not to read: it reads nothing, and would never be done', () => {
  expect(scoutOf('a reason')).toMatchObject({ isReadDue: false, nextAt: FOREVER });
});
