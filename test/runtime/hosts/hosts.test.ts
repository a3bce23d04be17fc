import { createPublicKey, verify } from 'node:crypto';
import { renameSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { runCall } from '../../../src/core/call/call.js';
import { random } from '../../../src/core/jobs/operation.js';
import type { TokenObject, VirtualToken } from '../../../src/index.js';
import { readConfiguration } from '../../../src/runtime/groups/configuration-source.js';
import { OpenGroup } from '../../../src/runtime/groups/open-group.js';
import { Cluster, pidOf, stateOf, untilState } from '../../support/cluster.js';
import { rsaPair, secretKey } from '../../support/keys.js';
import { startService } from '../../support/process.js';

const rsa = rsaPair('rsa');
const mac = secretKey('mac', undefined, { type: 'GENERIC_SECRET' });
const objects = [rsa, mac].flatMap((key) => key.objects);
const publicKey = createPublicKey(rsa.publicKey.export({ format: 'pem', type: 'spki' }));

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.make('hosts', [objects, objects]);
});
afterEach(() => cluster.heal());
afterAll(() => cluster.close());

/** Starts callers that sign and check until told to stop; `stop` returns the number of signatures. */
function keepSigning(token: VirtualToken, key: TokenObject, callers = 8): { stop(): Promise<number> } {
  let stopped = false;
  let signed = 0;
  const running = Array.from({ length: callers }, async (_, caller) => {
    for (let i = 0; !stopped; i += 1) {
      const data = Buffer.from(`${caller} ${i}`);
      const signature = await token.sign('SHA256_RSA_PKCS', key, data);
      if (!verify('sha256', data, publicKey, signature)) throw new Error('a wrong signature');
      signed += 1;
    }
  });
  return {
    stop: async () => {
      stopped = true;
      await Promise.all(running);
      return signed;
    },
  };
}

async function openAndFind(): Promise<[VirtualToken, TokenObject]> {
  const token = await cluster.open();
  return [token, await token.get({ label: 'rsa', class: 'PRIVATE_KEY' })];
}

describe('a host', () => {
  test('[Rule 7] that is killed is replaced, and no call fails', async () => {
    const [token, key] = await openAndFind();
    const work = keepSigning(token, key);
    const before = pidOf(token, 'hsm1');
    process.kill(before, 'SIGKILL');
    await untilState(token, 'hsm1', 'down', 'joining');
    await untilState(token, 'hsm1', 'active');
    expect(await work.stop()).toBeGreaterThan(0);
    expect(pidOf(token, 'hsm1')).not.toBe(before);
    await token.close();
  });

  test('[Rule 9] that is stopped gets no calls, is killed after hangAfter and replaced', async () => {
    const [token, key] = await openAndFind();
    const work = keepSigning(token, key);
    const before = pidOf(token, 'hsm2');
    process.kill(before, 'SIGSTOP');
    // Waits for down only: on a busy machine the member may be down without having been suspect.
    await untilState(token, 'hsm2', 'down');
    await untilState(token, 'hsm2', 'active');
    expect(await work.stop()).toBeGreaterThan(0);
    expect(pidOf(token, 'hsm2')).not.toBe(before);
    await token.close();
  });

  test('that is stopped and continues within hangAfter is used again without being replaced', async () => {
    const token = await cluster.open(cluster.configuration({ hangAfter: 10_000, deadline: 20_000 }));
    const key = await token.get({ label: 'rsa', class: 'PRIVATE_KEY' });
    const work = keepSigning(token, key);
    const pid = pidOf(token, 'hsm2');
    process.kill(pid, 'SIGSTOP');
    await untilState(token, 'hsm2', 'suspect');
    process.kill(pid, 'SIGCONT');
    await untilState(token, 'hsm2', 'active');
    await work.stop();
    expect(pidOf(token, 'hsm2')).toBe(pid);
    await token.close();
  });

  test('whose library is missing leaves the work to the other member, and the reason names the library', async () => {
    const configuration = cluster.configuration();
    const [first, second] = configuration.members;
    if (first === undefined || second === undefined) throw new Error('two members');
    const token = await cluster.open({
      ...configuration,
      members: [{ ...first, module: '/nowhere/libhsm.so' }, second],
    });
    expect(stateOf(token.status(), 'hsm1')).toBe('down');
    expect(token.status().members[0]?.reason).toContain('/nowhere/libhsm.so cannot be loaded');
    const key = await token.get({ label: 'rsa', class: 'PRIVATE_KEY' });
    expect(await keepSigning(token, key, 2).stop()).toBeGreaterThan(0);
    await token.close();
  });

  test.each(['C_OpenSession', 'C_Login', 'C_Initialize'])(
    '[Rule 10] that hangs in %s at the start delays no call',
    async (name) => {
      cluster.fault('hsm1', `${name} hang`);
      const [token, key] = await openAndFind();
      expect(stateOf(token.status(), 'hsm2')).toBe('active');
      expect(await keepSigning(token, key, 2).stop()).toBeGreaterThan(0);
      cluster.heal();
      await untilState(token, 'hsm1', 'active');
      await token.close();
    },
  );

  test.each(['C_OpenSession', 'C_Login'])('[Rule 10] whose successor hangs in %s delays no call', async (name) => {
    const [token, key] = await openAndFind();
    const work = keepSigning(token, key);
    cluster.fault('hsm1', `${name} hang`);
    process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
    await cluster.untilMet('hsm1', new RegExp(`${name} hang`));
    cluster.heal();
    await untilState(token, 'hsm1', 'active');
    expect(await work.stop()).toBeGreaterThan(0);
    await token.close();
  });

  test('[Rule 14] whose token vanishes goes out of service, and finds stay whole', async () => {
    const [token, key] = await openAndFind();
    const work = keepSigning(token, key);
    const { directory } = cluster.member('hsm1').hsm;
    renameSync(directory, `${directory}.away`);
    try {
      await untilState(token, 'hsm1', 'down');
      expect((await token.find({ label: 'mac' })).length).toBe(1);
    } finally {
      renameSync(`${directory}.away`, directory);
    }
    await untilState(token, 'hsm1', 'active');
    expect(await work.stop()).toBeGreaterThan(0);
    await token.close();
  });
});

describe('output of a library', () => {
  test('is captured and emitted, and is not in the output of the application', async () => {
    for (const name of ['hsm1', 'hsm2']) cluster.fault(name, '* print=3');
    const { child, told, ended } = startService('end', cluster.configuration(), 'pipe');
    let errors = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    expect(await told).toHaveProperty('signature');
    expect(await ended).toEqual({ code: 0, signal: null });
    expect(errors).toBe('');
    const token = await cluster.open();
    const output = new Promise<string>((resolve) => token.on('output', ({ text }) => resolve(text)));
    await token.find();
    expect(await output).toMatch(/the library says something on standard (output|error)/u);
    await token.close();
  });

  test('never blocks the host, also if nothing reads it', async () => {
    const open = await OpenGroup.open(readConfiguration(cluster.configuration()));
    await open.awaitService(open.now() + 10_000);
    for (const name of ['hsm1', 'hsm2']) cluster.fault(name, 'C_GenerateRandom print=20000');
    // Calls synchronously, so that the event loop cannot read; the output is more than a pipe holds.
    for (let i = 0; i < 4; i += 1)
      expect(open.runSync(runCall(open.group, random(8), open.now() + 10_000))).toHaveLength(8);
    expect(open.group.members.map(({ state }) => state.name)).toEqual(['active', 'active']);
    await open.close();
  });
});

test('opening a group reads its records and no other object', async () => {
  for (const name of ['hsm1', 'hsm2']) cluster.fault(name, 'C_GetAttributeValue trace');
  const finds = (): number => ['hsm1', 'hsm2'].flatMap((name) => cluster.met(name)).length;
  const before = finds();
  const token = await cluster.open();
  expect(finds()).toBe(before);
  await token.find();
  expect(finds()).toBeGreaterThan(before);
  await token.close();
});

describe('with all members away', () => {
  test('[Rule 2] a call ends at its deadline with its attempts, and calls succeed when a member returns', async () => {
    const [token, key] = await openAndFind();
    cluster.fault('hsm1', 'C_Initialize return=0x30');
    cluster.fault('hsm2', 'C_Initialize return=0x30');
    for (const name of ['hsm1', 'hsm2']) process.kill(pidOf(token, name), 'SIGKILL');
    const started = performance.now();
    const failure = await token
      .sign('SHA256_RSA_PKCS', key, 'data', { deadline: 700 })
      .catch((error: unknown) => error);
    expect(performance.now() - started).toBeGreaterThanOrEqual(690);
    expect(failure).toMatchObject({ name: 'TokenError', method: 'C_Sign' });
    expect((failure as Error).message).toMatch(/hsm1.*hsm2/u);
    cluster.heal();
    const signature = await token.sign('SHA256_RSA_PKCS', key, 'data');
    expect(verify('sha256', Buffer.from('data'), publicKey, signature)).toBe(true);
    await token.close();
  });
});
