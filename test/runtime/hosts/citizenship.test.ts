import { pbkdf2 } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { MemberEvent } from '../../../src/index.js';
import { Cluster, untilState } from '../../support/cluster.js';
import { ecPair, rsaPair, secretKey } from '../../support/keys.js';
import { serviceProgram, startService, untilGone, zombies } from '../../support/process.js';

const objects = [rsaPair('rsa'), ecPair('ec'), secretKey('aes')].flatMap((key) => key.objects);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.make('citizenship', [objects, objects]);
});
afterEach(() => cluster.heal());
afterAll(() => cluster.close());

describe('an application', () => {
  test('can use files, DNS and hashes while four calls hang', async () => {
    const token = await cluster.open(cluster.configuration({ hangAfter: 60_000, deadline: 60_000 }));
    const key = await token.get({ label: 'rsa', class: 'PRIVATE_KEY' });
    for (const name of ['hsm1', 'hsm2']) cluster.fault(name, 'C_Sign hang');
    let ended = 0;
    const calls = Array.from({ length: 4 }, () =>
      token.sign('SHA256_RSA_PKCS', key, 'data').finally(() => {
        ended += 1;
      }),
    );
    await Promise.all(['hsm1', 'hsm2'].map((name) => cluster.untilMet(name, /C_Sign hang/u)));
    await Promise.all([stat('/'), lookup('localhost'), promisify(pbkdf2)('password', 'salt', 1000, 32, 'sha256')]);
    expect(ended).toBe(0);
    cluster.heal();
    await Promise.all(calls);
    await token.close();
  });

  test('[Rule 2] whose event loop stops for 500 ms makes no member suspect', async () => {
    const token = await cluster.open();
    const events: MemberEvent[] = [];
    const key = await token.get({ label: 'rsa', class: 'PRIVATE_KEY' });
    for (let i = 0; i < 40; i += 1) await token.sign('SHA256_RSA_PKCS', key, 'data');
    token.on('member', (event) => events.push(event));
    const calls = Array.from({ length: 16 }, () => token.sign('SHA256_RSA_PKCS', key, 'data'));
    for (const until = performance.now() + 500; performance.now() < until; );
    await Promise.all(calls);
    // Blocks again in the turn of the next call, before the event loop can take in its reply.
    const short = token.sign('SHA256_RSA_PKCS', key, 'data', { deadline: 100 });
    for (const until = performance.now() + 300; performance.now() < until; );
    await Promise.all([short, token.sign('SHA256_RSA_PKCS', key, 'data')]);
    expect(events.filter(({ to }) => to === 'suspect' || to === 'down')).toEqual([]);
    await token.close();
  });

  test('can abort a call', async () => {
    const token = await cluster.open();
    const key = await token.get({ label: 'rsa', class: 'PRIVATE_KEY' });
    for (const name of ['hsm1', 'hsm2']) cluster.fault(name, 'C_Sign hang');
    const controller = new AbortController();
    const call = token.sign('SHA256_RSA_PKCS', key, 'data', { signal: controller.signal });
    controller.abort();
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
    cluster.heal();
    await token.close();
  });

  test('can close a token, which finishes running calls and refuses later ones', async () => {
    const token = await cluster.open();
    const key = await token.get({ label: 'rsa', class: 'PRIVATE_KEY' });
    const calls = Array.from({ length: 20 }, () => token.sign('SHA256_RSA_PKCS', key, 'data'));
    const pids = token.status().members.map(({ pid }) => pid as number);
    await token.close();
    expect(await Promise.all(calls)).toHaveLength(20);
    await expect(token.sign('SHA256_RSA_PKCS', key, 'data')).rejects.toMatchObject({ code: 0x190 });
    await untilGone(pids);
  });
});

describe('a program', () => {
  test('that ends without close ends at once, and leaves no host', async () => {
    const { told, ended } = startService('end', cluster.configuration());
    const { pids } = await told;
    expect(await ended).toEqual({ code: 0, signal: null });
    await untilGone(pids as number[]);
  });

  test('that exits during hanging calls ends at once, and leaves no host', async () => {
    for (const name of ['hsm1', 'hsm2']) cluster.fault(name, 'C_Sign hang');
    const { told, ended } = startService('exit', cluster.configuration());
    const { pids } = await told;
    expect(await ended).toEqual({ code: 7, signal: null });
    await untilGone(pids as number[]);
  });

  test('that is killed leaves no host', async () => {
    const { child, told, ended } = startService('work', cluster.configuration());
    const { pids } = await told;
    child.kill('SIGKILL');
    expect(await ended).toEqual({ code: null, signal: 'SIGKILL' });
    await untilGone(pids as number[]);
  });

  test('that is killed while its hosts are stopped leaves no host', async () => {
    const { child, told, ended } = startService('work', cluster.configuration({ hangAfter: 60_000 }));
    const { pids } = await told;
    for (const pid of pids as number[]) process.kill(pid, 'SIGSTOP');
    child.kill('SIGKILL');
    await ended;
    await untilGone(pids as number[]);
  });
});

describe('a worker thread', () => {
  test('has a group of its own, whose hosts end when it is terminated', async () => {
    const workers = [0, 1].map(
      () => new Worker(serviceProgram, { workerData: ['work', cluster.configuration()], env: process.env }),
    );
    const told = await Promise.all(workers.map((worker) => once(worker, 'message')));
    await Promise.all(workers.map((worker) => worker.terminate()));
    const pids = told.flatMap(([message]) => message.pids as number[]);
    await untilGone(pids);
    expect(zombies(pids)).toEqual([]);
  });

  test('that ends by itself ends at once', async () => {
    const worker = new Worker(serviceProgram, { workerData: ['end', cluster.configuration()], env: process.env });
    const [[{ pids }]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
    await untilGone(pids as number[]);
  });
});

describe('virtual handles', () => {
  test('[Rule 11] are the same in other processes, and with the members in another order', async () => {
    const configuration = cluster.configuration();
    const reversed = { ...configuration, members: [...configuration.members].reverse() };
    const services = [configuration, configuration, reversed].map((each) => startService('handles', each));
    const [one, two, three] = await Promise.all(services.map(({ told }) => told));
    await Promise.all(services.map(({ ended }) => ended));
    expect(Object.keys(one?.handles as object)).toHaveLength(5);
    expect(two).toEqual(one);
    expect(three).toEqual(one);
  });

  test('that are new to this process are found, and unknown ones are refused', async () => {
    const service = startService('handles', cluster.configuration());
    const { handles } = (await service.told) as { handles: Record<string, number> };
    const handle = Object.entries(handles).find(([name]) => name.startsWith('PRIVATE_KEY rsa'))?.[1] as number;
    const token = await cluster.open();
    expect(await token.sign('SHA256_RSA_PKCS', handle, 'data')).toHaveLength(256);
    await expect(token.sign('SHA256_RSA_PKCS', 12_345, 'data')).rejects.toMatchObject({ code: 0x60 });
    await expect(token.getAttributes(12_345, ['label'])).rejects.toMatchObject({ code: 0x82 });
    await untilState(token, 'hsm1', 'active');
    await token.close();
  });
});
