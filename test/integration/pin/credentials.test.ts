import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { VirtualToken } from '../../../src/index.js';
import { fileNameOf } from '../../../src/runtime/coordination/local/lock-folder.js';
import { readConfiguration } from '../../../src/runtime/groups/configuration-source.js';
import { OpenGroup } from '../../../src/runtime/groups/open-group.js';
import { Cluster, stateOf, untilState } from '../../support/cluster.js';
import { secretKey } from '../../support/keys.js';

const aes = secretKey('aes');

let cluster: Cluster;
let pinFile: string;
beforeAll(async () => {
  cluster = await Cluster.make('credentials', [aes.objects, aes.objects]);
  pinFile = join(cluster.folder.path, 'pin');
});
afterEach(() => cluster.heal());
afterAll(() => cluster.close());

function logins(): number {
  return cluster.members.flatMap(({ name }) => cluster.met(name)).filter((line) => line.includes('C_Login')).length;
}

describe('the PIN', () => {
  test('[Rule 6] that is wrong is tried once on one member, and the error does not contain it', async () => {
    writeFileSync(pinFile, '99119911\n');
    for (const { name } of cluster.members) cluster.fault(name, 'C_Login trace');
    const before = logins();
    const failure = await VirtualToken.open({ ...cluster.configuration(), pin: { file: pinFile } }).catch(
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({ name: 'TokenError', code: 0xa0, method: 'C_Login' });
    expect(String((failure as Error).stack)).not.toContain('99119911');
    expect(logins() - before).toBe(1);
  });

  test('[Rule 6] that a token has refused twice is not tried again by another start, until an operator says so', async () => {
    writeFileSync(pinFile, '99119912\n');
    const configuration = { ...cluster.configuration(), pin: { file: pinFile } };
    for (const { name } of cluster.members) cluster.fault(name, 'C_Login trace');
    const before = logins();
    await expect(VirtualToken.open(configuration)).rejects.toMatchObject({ code: 0xa0 });
    // Each start may ask another member first.
    for (let i = 0; i < 9; i += 1) await expect(VirtualToken.open(configuration)).rejects.toMatchObject({ code: 0xa0 });
    expect(logins() - before).toBeLessThanOrEqual(2 * cluster.members.length);
    const folder = join(process.env.PKCS11_HA_LOCKS ?? '', fileNameOf('test group'), 'refused');
    const kept = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'latin1'));
    expect(kept.length).toBeGreaterThan(0);
    for (const text of kept) expect(text).not.toContain('99119912');
    const tried = logins();
    const open = await OpenGroup.open(readConfiguration(configuration), { triesAgain: 'all' });
    await expect(open.awaitService(open.now() + 5000)).rejects.toMatchObject({ code: 0xa0 });
    await open.close();
    expect(logins() - tried).toBe(1);
    // Another PIN of the source is tried, and a good login forgets the refusals.
    writeFileSync(pinFile, `${cluster.members[0]?.hsm.pin}\n`);
    const token = await cluster.open(configuration);
    await untilState(token, 'hsm1', 'active');
    await untilState(token, 'hsm2', 'active');
    await token.close();
    expect(readdirSync(folder)).toEqual([]);
  });

  test('that is locked is reported as locked, and not tried again', async () => {
    for (const { name } of cluster.members) cluster.fault(name, 'C_Login return=0xa4');
    await expect(cluster.open()).rejects.toMatchObject({ name: 'TokenError', code: 0xa4, method: 'C_Login' });
  });

  test('that is locked on one member leaves the others in service', async () => {
    cluster.fault('hsm1', 'C_Login return=0xa4');
    const token = await cluster.open();
    expect(stateOf(token.status(), 'hsm1')).toBe('down');
    expect(token.status().members[0]?.reason).toContain('CKR_PIN_LOCKED');
    expect(await token.find({ label: 'aes' })).toHaveLength(1);
    await token.close();
  });

  test('is tried again on a token that answers for a moment that it has none', async () => {
    cluster.fault('hsm1', 'C_Login return=0x102');
    const token = await cluster.open();
    expect(token.status().members[0]?.reason).toContain('CKR_USER_PIN_NOT_INITIALIZED');
    cluster.heal();
    await untilState(token, 'hsm1', 'active');
    await token.close();
  });

  test.each([
    ['a file', (): object => ({ file: pinFile })],
    ['a program', (): object => ({ command: ['cat', pinFile] })],
    ['a line for the shell', (): object => ({ command: `cat '${pinFile}'` })],
  ])('can come from %s', async (_name, pin) => {
    writeFileSync(pinFile, `${cluster.members[0]?.hsm.pin}\n`);
    const token = await cluster.open({ ...cluster.configuration(), pin: pin() });
    expect(await token.find({ label: 'aes' })).toHaveLength(1);
    await token.close();
  });

  test.each([
    ['an environment variable that is not set', { env: 'NO_SUCH_VARIABLE' }, 'NO_SUCH_VARIABLE is not set'],
    ['a file that is not there', { file: '/nowhere/pin' }, '/nowhere/pin cannot be read (ENOENT)'],
    ['a program that fails', { command: ['false'] }, 'false failed (exit code 1)'],
  ])('%s is refused before a host is started', async (_name, pin, message) => {
    await expect(VirtualToken.open({ ...cluster.configuration(), pin })).rejects.toThrow(message);
  });

  test.each(['a program', 'a pipe'])(
    'that %s does not give: the group does not open, and the event loop goes on',
    async (source) => {
      const pipe = join(cluster.folder.path, 'pipe');
      if (source === 'a pipe') execFileSync('mkfifo', [pipe]);
      const pin = source === 'a pipe' ? { file: pipe } : { command: 'sleep 60; echo 1' };
      let turns = 0;
      const turning = setInterval(() => (turns += 1), 10);
      const opening = VirtualToken.open({ ...cluster.configuration(), pin }, { deadline: 500 });
      await expect(opening).rejects.toThrow(/gave no PIN within 500 ms/u);
      clearInterval(turning);
      expect(turns).toBeGreaterThan(1);
    },
  );

  test('can come through a pipe that is written to later', async () => {
    const pipe = join(cluster.folder.path, 'later');
    execFileSync('mkfifo', [pipe]);
    const opening = cluster.open({ ...cluster.configuration(), pin: { file: pipe } });
    spawn('sh', ['-c', `printf '%s\\n' "$PIN" > '${pipe}'`], {
      env: { PIN: cluster.members[0]?.hsm.pin ?? '' },
      stdio: 'ignore',
    });
    expect(await (await opening).find({ label: 'aes' })).toHaveLength(1);
  });

  test('is not in the environment of a host', async () => {
    const token = await cluster.open();
    const { pid } = token.status().members[0] ?? {};
    // Reads the environment, which only root may do, since the host is not dumpable.
    let environment = '';
    try {
      environment = readFileSync(`/proc/${pid}/environ`, 'latin1');
    } catch {
      // Ignores that the file is closed, as it then is to other users.
    }
    expect(environment.includes(cluster.pinVariable)).toBe(false);
    await token.close();
  });

  test('is not needed: without one no member logs in, and private objects are not found', async () => {
    for (const { name } of cluster.members) cluster.fault(name, 'C_Login trace');
    const before = logins();
    const { pin: _pin, ...configuration } = cluster.configuration();
    const token = await cluster.open(configuration);
    expect(await token.find({ label: 'aes' })).toEqual([]);
    expect(await token.random(16)).toHaveLength(16);
    expect(logins()).toBe(before);
    await token.close();
  });
});
