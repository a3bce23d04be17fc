import { expect, test } from '@jest/globals';
import { Signal } from '../../../src/core/base/task.js';
import type { Claim } from '../../../src/core/coordination/coordinator.js';
import type { Job } from '../../../src/spec/job.js';
import { twoTokens } from '../../support/signing.js';
import { World } from '../../support/world.js';

const read: Job = { steps: [], sessionless: true };
const write: Job = { ...read, longWrite: true };

/** Makes a claim with an expiry (ms of the world's clock). */
function claimUntil(expiresAt: number): Claim {
  return { name: 'work', fence: 1, expiresAt, lost: new Signal(), path: '/world/work', release: () => {} };
}

test('[Rule 21] a write begins before every claim of the process has expired; other jobs have their own deadline', () => {
  const world = World.open(twoTokens());
  const { group, hosts, now } = world;
  const host = hosts.get('a');
  const connection = group.members.find(({ name }) => name === 'a')?.connection;
  if (host === undefined || connection === undefined) throw new Error('member a serves');
  const deadlines: number[] = [];
  const send = host.send.bind(host);
  host.send = (...packet) => {
    deadlines.push(packet[1] - now);
    return send(...packet);
  };
  const submit = (...jobs: readonly Job[]): void => {
    for (const job of jobs) connection.submit(job, 'job', now + 1000);
  };
  const claims = [claimUntil(now + 500), claimUntil(now + 300), claimUntil(now + 5000)];
  for (const claim of claims) group.claims.add(claim);
  submit(write, read);
  for (const claim of claims.slice(0, 2)) group.claims.delete(claim);
  submit(write);
  expect(deadlines).toEqual([300, 1000, 1000]);
});
