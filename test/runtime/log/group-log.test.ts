import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.form('ha-log');
});
afterAll(() => cluster.close());

describe('the HA log of a group', () => {
  test('has each change of state of a member whose host was killed, with its reason', async () => {
    const file = join(cluster.folder.path, 'ha.jsonl');
    const token = await cluster.open({ ...cluster.configuration(), log: { file } });
    process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
    await untilState(token, 'hsm1', 'down', 'joining');
    await untilState(token, 'hsm1', 'active');
    await token.close();

    const text = readFileSync(file, 'utf8');
    const lines = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const { label } = cluster.configuration();
    for (const line of lines) {
      expect(line).toMatchObject({ time: expect.stringMatching(/^\d{4}-.*Z$/u), group: label, pid: process.pid });
    }
    const own = lines.filter(({ type, member }) => type === 'member' && member === 'hsm1');
    const killed = own.findIndex(({ reason }) => reason.includes('SIGKILL'));
    // On a busy machine the member may be suspect before its host is found dead.
    expect(own[killed]).toMatchObject({ reason: 'the host was ended by SIGKILL' });
    expect(['active', 'suspect']).toContain(own[killed].from);
    // Expects changes that follow each other without a gap, from active to active.
    expect(killed).toBeGreaterThan(0);
    for (const [index, { from }] of own.entries()) if (index > 0) expect(from).toBe(own[index - 1].to);
    expect(own.findLastIndex(({ to }) => to === 'active')).toBeGreaterThan(killed);
    expect(text).not.toContain(cluster.member('hsm1').hsm.pin);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });
});
