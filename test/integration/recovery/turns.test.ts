import { afterEach, expect, test } from '@jest/globals';
import { Cluster, pidOf, quickPolicy, untilState } from '../../support/cluster.js';

let cluster: Cluster;
afterEach(() => cluster.close());

test('while the host of a recovering member is stopped, the other member comes back into service', async () => {
  cluster = await Cluster.form('turns');
  const token = await cluster.open(cluster.configuration({ ...quickPolicy, writeHangAfter: 20_000 }));
  const key = await token.generateKey('AES_KEY_GEN', { token: true, label: 'key', valueLen: 32, encrypt: true });
  // Stops the recovery of hsm1 at a call of its catch-up, for which the limit is 22 s.
  cluster.fault('hsm1', 'C_UnwrapKey hang');
  process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
  await token.generateKey('AES_KEY_GEN', { token: true, label: 'missed', valueLen: 32, encrypt: true });
  await cluster.untilMet('hsm1', /C_UnwrapKey hang/u);
  // Another lane of the host would still answer calls.
  process.kill(pidOf(token, 'hsm1'), 'SIGSTOP');
  process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
  const result = await token.encrypt('AES_ECB', key, 'sixteen bytes...', { deadline: 10_000 });
  expect(result).toHaveLength(16);
  expect(token.status().members.find(({ name }) => name === 'hsm1')?.state).toBe('recovering');
  cluster.heal();
  process.kill(pidOf(token, 'hsm1'), 'SIGCONT');
  await untilState(token, 'hsm1', 'active');
});
