import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { GroupConfigInput, VirtualToken } from '../../../src/index.js';
import { boundaries, isEveryBoundary } from '../../support/boundaries.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';
import { startService } from '../../support/process.js';

const LONGEST = 3_600_000;
/** Calls at which the application ends; in a run of all boundaries only writes, since only they change the token. */
const calls = isEveryBoundary ? 'writes' : '*';

const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true };
const data = 'sixteen bytes...';
const policy = { hangAfter: 1000, writeHangAfter: 10_000, deadline: 20_000 } as const;

/** Tokens before the interrupted change; each try works on a copy. */
let added: Cluster;
let removed: Cluster;
let behind: Cluster;
let results: ReadonlyMap<number, Buffer>;

async function makeKeys(token: VirtualToken): Promise<Map<number, Buffer>> {
  const made = new Map<number, Buffer>();
  for (const extractable of [true, false]) {
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: `key ${extractable}`, extractable });
    made.set(key.handle, await token.encrypt('AES_ECB', key, data));
  }
  await token.createObject({ class: 'DATA', token: true, private: true, label: 'data', value: Buffer.from(data) });
  return made;
}

beforeAll(async () => {
  added = await Cluster.form('added', [[], [], []], 2);
  const whole = added.configuration(policy);
  const two = { ...whole, members: whole.members.slice(0, 2) };
  const token = await added.open(two);
  results = await makeKeys(token);
  removed = added.copy('removed');
  await token.close();
  const later = await removed.open({
    ...removed.configuration(policy),
    members: removed.configuration(policy).members.slice(0, 2),
  });
  const [, , third] = removed.configuration(policy).members;
  if (third === undefined) throw new Error('three members');
  await later.addMember(third);
  await later.close();
  behind = added.copy('behind');
  const lonely = await behind.open({
    ...behind.configuration(policy),
    members: behind.configuration(policy).members.slice(0, 2),
  });
  behind.fault('hsm2', 'C_Initialize return=0x30');
  process.kill(pidOf(lonely, 'hsm2'), 'SIGKILL');
  await untilState(lonely, 'hsm2', 'down');
  await makeKeys(lonely);
  const [old] = results.keys();
  await lonely.destroyObject(old as number);
  await lonely.close();
  behind.heal();
}, 60_000);
afterAll(() => Promise.all([added, removed, behind].map((each) => each.close())));

/**
 * Runs a program on copies of the tokens, and ends it at one call of a member's token after the other. After each,
 * `complete` has to finish the change.
 */
async function interruptEach(
  from: Cluster,
  mode: string,
  where: string,
  configurationOf: (cluster: Cluster) => GroupConfigInput,
  complete: (cluster: Cluster) => Promise<void>,
): Promise<void> {
  let ends = 0;
  for (const skip of boundaries(240, 30)) {
    const cluster = from.copy('interrupted');
    try {
      const service = startService(mode, configurationOf(cluster), 'pipe');
      await service.told;
      cluster.fault(where, `${calls} orphan times=1 skip=${skip}`);
      service.child.stdin?.write('go\n');
      const { code } = await service.ended;
      const hasEnded = cluster.met(where).length > 0;
      expect(hasEnded || code === 0).toBe(true);
      cluster.heal();
      await complete(cluster);
      if (!hasEnded) break;
      ends += 1;
    } finally {
      await cluster.close();
    }
  }
  expect(ends).toBeGreaterThan(0);
}

/** Closes the token once its records are tidied up, and compares its members' tokens, read apart from the group. */
async function expectAlike(
  cluster: Cluster,
  token: VirtualToken,
  names: readonly string[],
  labels: readonly string[],
): Promise<void> {
  await cluster.untilTidy(names);
  await token.close();
  const read = await Promise.all(names.map((name) => cluster.read(name)));
  for (const each of read) {
    expect(each.map(({ label }) => label).sort()).toEqual([...labels].sort());
    expect(each).toEqual(read[0]);
  }
  for (const name of names) {
    const own = await cluster.readOwn(name);
    expect(own).not.toContain('pkcs11-ha:probe');
    expect(own.filter((label) => /group$|transport/u.test(label))).toEqual(['pkcs11-ha:group', 'pkcs11-ha:transport']);
  }
}

const three = (cluster: Cluster): GroupConfigInput => cluster.configuration(policy);
const twoOf = (cluster: Cluster): GroupConfigInput => {
  const whole = cluster.configuration(policy);
  return { ...whole, members: whole.members.slice(0, 2) };
};
const labels = ['data', 'key false', 'key true'];

describe.each(['hsm1', 'hsm3'])('the application ends at a call of %s', (where) => {
  test(
    'while a member is added: adding it again completes, no key is lost or doubled',
    async () => {
      await interruptEach(added, 'administer:add:hsm3', where, three, async (cluster) => {
        const token = await cluster.open(twoOf(cluster));
        const [, , third] = three(cluster).members;
        if (third === undefined) throw new Error('three members');
        await token.addMember(third);
        await Promise.all(['hsm1', 'hsm2', 'hsm3'].map((name) => untilState(token, name, 'active')));
        for (const [handle, result] of results) expect(await token.encrypt('AES_ECB', handle, data)).toEqual(result);
        await expectAlike(cluster, token, ['hsm1', 'hsm2', 'hsm3'], labels);
      });
    },
    LONGEST,
  );

  test(
    'while a member is removed: removing it again completes, no key is lost or doubled',
    async () => {
      await interruptEach(removed, 'administer:remove:hsm3', where, three, async (cluster) => {
        const token = await cluster.open(three(cluster));
        await token.removeMember('hsm3');
        for (const [handle, result] of results) expect(await token.encrypt('AES_ECB', handle, data)).toEqual(result);
        await expectAlike(cluster, token, ['hsm1', 'hsm2'], labels);
        expect(await cluster.readOwn('hsm3')).toEqual([]);
      });
    },
    LONGEST,
  );
});

describe.each(['hsm1', 'hsm2'])('the application ends at a call of %s', (where) => {
  test(
    '[Rule 16] while a member catches up: the next application completes it, no key is lost or doubled',
    async () => {
      await interruptEach(behind, 'come back', where, twoOf, async (cluster) => {
        const token = await cluster.open(twoOf(cluster));
        await Promise.all(['hsm1', 'hsm2'].map((name) => untilState(token, name, 'active')));
        await expectAlike(cluster, token, ['hsm1', 'hsm2'], ['data', 'data', 'key false', 'key false', 'key true']);
      });
    },
    LONGEST,
  );
});
