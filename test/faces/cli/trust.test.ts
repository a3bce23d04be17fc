import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { type Ended, run } from '../../support/cli.js';
import { json, Workbench } from '../../support/workbench.js';

const bench = new Workbench('cli-trust');
const { folder, configure, tokenOptions } = bench;
beforeAll(bench.make);
afterAll(() => folder.remove());

/** Environment of an account that keeps no administration keys. */
const other = { env: { XDG_CONFIG_HOME: join(folder.path, 'other-account') } };

let path: string;
let keyFile: string;
const at = (...args: string[]): Promise<Ended> => run([...args, '--config', path], other);
const publicKeyIn = (): string | undefined => /publicKey: "?([0-9a-f]{64})/u.exec(readFileSync(path, 'utf8'))?.[1];

beforeEach(async () => {
  path = configure('trusted', [0, 1]);
  keyFile = join(folder.path, 'trusted.administration-key');
  rmSync(keyFile, { force: true });
  const created = await at('group', 'create', path, '--existing', 'remove', '--yes');
  expect([created.code, created.stderr]).toEqual([0, '']);
});

test('[Rule 19] a new group gets an administration key beside its configuration, which names it', async () => {
  expect(statSync(keyFile).mode & 0o777).toBe(0o600);
  const shown = json(await at('group', 'show', '--json'));
  expect(shown.administrationKey).toBe(publicKeyIn());
  expect(json(await at('status', '--json'))).toMatchObject({ isSigned: true, isConfirmed: true });
  const again = await at('group', 'create', path, '--existing', 'copy', '--json');
  expect(json(again)).toMatchObject({ adopted: true, administrationKey: shown.administrationKey });
});

test('[Rule 19] a group whose key was lost says so, adds no member, and is signed again', async () => {
  const lost = publicKeyIn();
  writeFileSync(path, readFileSync(path, 'utf8').replace(/\nadministration:[\s\S]*/u, '\n'));
  rmSync(keyFile);
  const status = await at('status');
  expect([status.code, status.stdout]).toEqual([0, expect.stringMatching(/warning the group's record is not signed/u)]);
  const refused = await at('member', 'add', 'hsm3', ...tokenOptions(2));
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(`is signed with the key ${lost}`)]);
  const unconfirmed = await at('group', 'sign');
  expect(unconfirmed.code).toBe(2);
  expect(existsSync(keyFile)).toBe(false);
  const signed = json(await at('group', 'sign', '--yes', '--json'));
  expect(signed).toMatchObject({ publicKey: publicKeyIn(), leftOut: [], lines: [] });
  expect(signed.publicKey).not.toBe(lost);
  expect((await at('member', 'add', 'hsm3', ...tokenOptions(2))).code).toBe(0);
  expect((await at('member', 'remove', 'hsm3', '--wipe', '--yes')).code).toBe(0);
});

test('a configuration that cannot be edited in place gets its lines told before a token is touched', async () => {
  const flow = join(folder.path, 'flow.yaml');
  const text = readFileSync(path, 'utf8');
  const { members, pin } = (await import('yaml')).parse(text) as { members: unknown; pin: unknown };
  writeFileSync(flow, JSON.stringify({ label: 'flow', members, pin }));
  const created = await run(['group', 'create', flow, '--existing', 'remove', '--yes'], other);
  expect(created.code).toBe(0);
  expect(created.stderr).toMatch(
    /add these lines to every configuration of the group:\n(?:#.*\n)+administration:\n {2}publicKey: /u,
  );
  expect(readFileSync(flow, 'utf8')).toBe(JSON.stringify({ label: 'flow', members, pin }));
  expect(existsSync(join(folder.path, 'flow.administration-key'))).toBe(true);
});

test('the administration key is changed: made, named, and used', async () => {
  const next = join(folder.path, 'next.administration-key');
  const { publicKey } = json(await run(['group', 'key', next, '--json'], other));
  const former = publicKeyIn();
  const text = readFileSync(path, 'utf8').replace(/\nadministration:[\s\S]*/u, '\n');
  writeFileSync(path, `${text}administration: { publicKey: ["${former}", "${publicKey}"], key: { file: ${next} } }\n`);
  const rekeyed = json(await at('group', 'rekey', '--yes', '--json'));
  expect(rekeyed.publicKey).toBe(publicKey);
  expect(json(await at('group', 'show', '--json'))).toMatchObject({
    administrationKey: publicKey,
    domain: rekeyed.domain,
  });
  const twice = await run(['group', 'key', next], other);
  expect([twice.code, twice.stderr]).toEqual([2, expect.stringContaining(`${next} exists already`)]);
});
