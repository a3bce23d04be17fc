import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createGroup, type GroupConfigInput } from '../src/index.js';
import { makeMembers, type Side } from './support/differential/tokens.js';
import { secretKey } from './support/keys.js';
import { untilGone } from './support/process.js';
import { makeFolder } from './support/softhsm.js';

const folder = makeFolder('examples');
let group: Side & { readonly configuration: GroupConfigInput };
beforeAll(async () => {
  const objects = ['default', 'config', 'value'].flatMap((label, at) => secretKey(label, Buffer.from([at])).objects);
  group = await makeMembers(folder.path, objects);
  Object.assign(process.env, group.env);
  await createGroup(group.configuration);
});
afterAll(() => folder.remove());

const exampleOf = (name: string): string => fileURLToPath(new URL(`../examples/${name}`, import.meta.url));
const environment = (more: Record<string, string> = {}): NodeJS.ProcessEnv => ({
  ...process.env,
  ...group.env,
  GROUP: group.path,
  PIN: group.pin,
  ...more,
});

test('graphene-pk11', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [exampleOf('graphene.js')], { env: environment() });
  expect(stdout).toMatch(/^differential: \d+ mechanisms\nverified: true\n$/u);
});

test('node-webcrypto-p11', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [exampleOf('webcrypto.js')], { env: environment() });
  expect(stdout).toBe('verified: 10 of 10\n');
});

test('the service for OTP seeds and PINs: keys by label, members lost, and a graceful end', async () => {
  const bearer = randomBytes(16).toString('hex');
  // Ends the service with the test, also when the test is killed.
  const followed = ['--pdeathsig', 'TERM', process.execPath, exampleOf('otp-service.js')];
  const child: ChildProcess = spawn('setpriv', followed, {
    env: environment({ PORT: '0', BEARER: bearer }),
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [line] = await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), 'line');
  const url = `http://127.0.0.1:${/\d+$/u.exec(line as string)?.[0]}`;
  const post = async (path: string, body: string | Buffer): Promise<Response> =>
    await fetch(`${url}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${bearer}` },
      body: new Uint8Array(Buffer.from(body as string)),
    });
  const seeds = Array.from({ length: 30 }, () => randomBytes(20));
  const hosts = async (): Promise<number[]> => {
    const { stdout } = await promisify(execFile)('cat', [`/proc/${child.pid}/task/${child.pid}/children`]);
    return stdout.trim().split(' ').filter(Boolean).map(Number);
  };
  const all = await hosts();
  expect(all).toHaveLength(2);
  const [first] = all;
  for (const [at, seed] of seeds.entries()) {
    if (at === 10) process.kill(first as number, 'SIGKILL');
    for (const key of ['default', 'config', 'value']) {
      const encrypted = await (await post(`/encrypt/${key}`, seed)).text();
      expect(encrypted).toMatch(/^[0-9a-f]{24}:[0-9a-f]{72}$/u);
      expect(Buffer.from(await (await post(`/decrypt/${key}`, encrypted)).arrayBuffer())).toEqual(seed);
    }
  }
  const foreign = await (await post('/encrypt/value', 'seed')).text();
  // Tries another key, and a changed text: neither is decrypted.
  expect((await post('/decrypt/default', foreign)).status).toBe(400);
  const changed = `${foreign.slice(0, -1)}${foreign.endsWith('0') ? '1' : '0'}`;
  expect((await post('/decrypt/value', changed)).status).toBe(400);
  expect(await (await post('/decrypt/value', foreign)).text()).toBe('seed');
  expect((await fetch(`${url}/encrypt/value`, { method: 'POST', body: 'x' })).status).toBe(401);
  expect((await post('/encrypt/value', Buffer.alloc(100_000))).status).toBe(400);
  expect((await post('/decrypt/value', 'nonsense')).status).toBe(400);
  expect((await post('/encrypt/nokey', 'x')).status).toBe(400);
  expect((await post('/constructor/value', 'x')).status).toBe(400);
  const health = (await (await fetch(`${url}/health`)).json()) as { name: string; state: string }[];
  expect(health.map(({ name }) => name)).toEqual(['hsm1', 'hsm2']);
  // Sends requests and then the signal: requests under way are answered.
  const last = Array.from({ length: 20 }, (_, at) => post('/encrypt/value', `last ${at}`));
  await Promise.race(last);
  const pids = await hosts();
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const statuses = (await Promise.allSettled(last)).map((each) =>
    each.status === 'fulfilled' ? each.value.status : 0,
  );
  // Allows refused connections (0) beside right answers (200), and no error.
  expect(statuses.filter((status) => status !== 0 && status !== 200)).toEqual([]);
  expect(await ended).toEqual([0, null]);
  await untilGone(pids);
});
