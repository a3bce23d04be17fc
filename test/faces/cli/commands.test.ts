import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Ended, run } from '../../support/cli.js';
import { provision, readToken } from '../../support/softhsm.js';
import { expectOneLine, json, Workbench } from '../../support/workbench.js';

const bench = new Workbench('cli');
const { folder, hsm, controlOf, configure, tokenOptions } = bench;
beforeAll(bench.make);
afterAll(() => bench.folder.remove());

describe('a group at the shell', () => {
  let path: string;
  const at = async (...args: string[]): Promise<Ended> => await run([...args, '--config', path]);

  beforeAll(async () => {
    path = configure('story', [0, 1]);
    const { code, stderr } = await at('group', 'create', path);
    expect([code, stderr]).toEqual([0, '']);
  });

  test('is shown and listed, and a second one of the same tokens is refused', async () => {
    expect(json(await at('group', 'show', '--json'))).toMatchObject({
      label: 'story',
      members: [{ name: 'hsm1', serial: hsm(0).serial, drained: false, filling: false }, { name: 'hsm2' }],
    });
    expect(json(await at('group', 'list', '--json')).groups).toContainEqual({
      path,
      label: 'story',
      members: ['hsm1', 'hsm2'],
      problem: null,
    });
    const again = await at('group', 'create', path);
    expect(again.code).toBe(2);
    expectOneLine(again);
    expect(again.stderr).toMatch(/--existing copy .* --existing remove/u);
    const adopted = await at('group', 'create', path, '--existing', 'copy', '--json');
    expect([adopted.code, json(adopted).adopted]).toEqual([0, true]);
  });

  test('keys are generated, listed, tested on each member alone, and destroyed', async () => {
    const [secret] = json(await at('key', 'generate', 'aes-256', 'seeds', '--json')).objects;
    expect(secret).toMatchObject({ class: 'SECRET_KEY', type: 'AES', label: 'seeds' });
    await at('key', 'generate', 'ec-p256', 'audit', '--id', '0a01');
    await at('key', 'generate', 'rsa-2048', 'web');
    await at('key', 'generate', 'hmac-256', 'codes');
    const { objects, slots } = json(await at('objects', '--json'));
    expect(slots.map(({ slot }: { slot: string }) => slot)).toEqual(['HA Virtual Card Slot', 'hsm1', 'hsm2']);
    expect(objects).toHaveLength(6);
    for (const { members } of objects) expect(members).toEqual({ hsm1: 'proven', hsm2: 'proven' });
    expect(json(await at('objects', '--id', '0a01', '--class', 'private_key', '--json')).objects).toMatchObject([
      { label: 'audit', type: 'EC', class: 'PRIVATE_KEY' },
    ]);
    const tested = await at('key', 'test', '--json');
    expect(tested.code).toBe(0);
    const { keys } = json(tested);
    expect(keys.map(({ way, result }: { way: string; result: string }) => `${way} ${result}`).sort()).toEqual([
      'AES-ECB same',
      'ECDSA same',
      'HMAC-SHA256 same',
      'RSA PKCS #1 same',
    ]);
    const unsaid = await at('key', 'destroy', 'web');
    expect(unsaid.code).toBe(2);
    expectOneLine(unsaid);
    expect((await at('key', 'destroy', 'web', '--yes')).code).toBe(0);
    expect((await at('key', 'destroy', String(secret.handle), '--yes')).code).toBe(0);
    const labels = (await readToken(hsm(1)))
      .map(({ label }) => label)
      .filter((label) => !label.startsWith('pkcs11-ha'));
    expect(labels.sort()).toEqual(['audit', 'audit', 'codes']);
  });

  test('key test fails for a missing object and for one that is no key', async () => {
    const tested = await at('key', 'test', 'nokey');
    expect(tested.code).toBe(1);
    expectOneLine(tested);
  });

  test('members are added and removed, and the file keeps its comments and its order', async () => {
    const before = readFileSync(path, 'utf8');
    expect((await at('member', 'add', 'hsm3', ...tokenOptions(2), '--standby')).code).toBe(0);
    const text = readFileSync(path, 'utf8');
    const place = before.indexOf('policy:');
    expect(text.startsWith(`${before.slice(0, place)}  - name: hsm3\n`)).toBe(true);
    expect(text.endsWith(before.slice(place))).toBe(true);
    const states = async (): Promise<string> => {
      const { members } = json(await at('status', '--json'));
      return members.map(({ name, state }: { name: string; state: string }) => `${name} ${state}`).join(', ');
    };
    expect(await states()).toBe('hsm1 active, hsm2 active, hsm3 standby');
    expect((await at('member', 'standby', 'hsm3', '--off')).code).toBe(0);
    expect((await at('member', 'drain', 'hsm2')).code).toBe(0);
    const drained = await at('status');
    expect(drained.code).toBe(3);
    expect(drained.stdout).toMatch(/^hsm2 +drained/mu);
    expect(await states()).toBe('hsm1 active, hsm2 drained, hsm3 active');
    expect((await at('member', 'undrain', 'hsm2')).code).toBe(0);
    const removed = await at('member', 'remove', 'hsm3', '--yes', '--json');
    expect([removed.code, json(removed)]).toMatchObject([0, { member: 'hsm3', cleaned: true }]);
    expect(await states()).toBe('hsm1 active, hsm2 active');
    expect(readFileSync(path, 'utf8')).toBe(before);
    expect((await readToken(hsm(2))).filter(({ label }) => label.startsWith('pkcs11-ha'))).toEqual([]);
  });

  test('a member that only the file or only the record names is reported, and can be added or removed', async () => {
    const narrow = join(folder.path, 'narrow.yaml');
    writeFileSync(narrow, readFileSync(path));
    expect((await at('member', 'add', 'hsm3', ...tokenOptions(2))).code).toBe(0);
    const wide = readFileSync(path);
    const other = (...args: string[]): ReturnType<typeof run> => run([...args, '--config', narrow]);
    const hsm3 = { name: 'hsm3', serial: hsm(2).serial };
    const status = await other('status', '--json');
    expect([status.code, json(status)]).toMatchObject([3, { state: 'degraded', unconfigured: [hsm3] }]);
    expect((await other('status')).stdout).toContain('hsm3 (serial');
    const verified = await other('verify', '--json');
    expect([verified.code, json(verified).problems]).toMatchObject([3, [{ member: 'hsm3', severity: 'warning' }]]);
    const deleted = await other('group', 'delete', '--yes');
    expect(deleted.code).toBe(1);
    expect(deleted.stderr).toContain('hsm3 (serial');
    expect((await at('member', 'add', 'hsm3')).code).toBe(0);
    const namesake = await other('member', 'add', 'hsm3', ...tokenOptions(3));
    expect([namesake.code, namesake.stderr]).toEqual([1, expect.stringContaining('already has a member hsm3')]);
    expect(readFileSync(narrow, 'utf8')).not.toContain('hsm3');
    const removed = await other('member', 'remove', 'hsm3', '--yes', '--json');
    expect([removed.code, json(removed)]).toMatchObject([3, { cleaned: false }]);
    expect((await other('member', 'remove', 'hsm3', '--yes')).stderr).toContain('no member hsm3');
    expect((await at('status')).stdout).toMatch(
      // Accepts both reasons: the token's own record may be read first, or the other members'.
      /^hsm3 +(?:down .*removed from the group|drained .*not one of the group)/mu,
    );
    expect((await at('member', 'add', 'hsm3', ...tokenOptions(2))).code).toBe(2);
    expect((await at('member', 'add', 'hsm3')).code).toBe(0);
    expect(readFileSync(path)).toEqual(wide);
    expect((await at('status')).code).toBe(0);
    expect((await at('member', 'remove', 'hsm3', '--yes')).code).toBe(0);
    expect(readFileSync(path)).toEqual(readFileSync(narrow));
  });

  test('an object that a member lacks is shown by each command, and repaired', async () => {
    const [{ handle }] = json(await at('key', 'generate', 'aes-256', 'lost', '--json')).objects;
    await provision(hsm(1), { destroy: ['lost'] });
    const tested = await at('key', 'test', 'lost', '--json');
    expect([tested.code, json(tested).keys]).toMatchObject([
      3,
      [{ handle, result: 'incomplete', members: { hsm1: 'same', hsm2: 'MISSING' } }],
    ]);
    const listed = await at('objects', '--label', 'lost', '--json');
    expect([listed.code, json(listed).objects[0].members]).toEqual([3, { hsm1: 'proven', hsm2: 'absent' }]);
    const status = await at('status', '--json');
    expect([status.code, json(status).state]).toEqual([3, 'degraded']);
    const difference = { kind: 'missing', member: 'hsm2', object: { handle, label: 'lost' } };
    const dry = await at('synchronize', '--dry-run', '--json');
    expect([dry.code, json(dry).differences]).toMatchObject([3, [{ ...difference, action: 'reported' }]]);
    const repaired = await at('synchronize', '--json');
    expect([repaired.code, json(repaired).differences]).toMatchObject([0, [{ ...difference, action: 'repaired' }]]);
    expect((await at('key', 'test', 'lost')).code).toBe(0);
    expect((await at('status')).code).toBe(0);
    expect(json(await at('recover', '--json')).members).toMatchObject([{ state: 'active' }, { state: 'active' }]);
  });

  test('[Rule 11] a restored backup gives destroyed objects back under the same handles', async () => {
    const { objects } = json(await at('objects', '--json'));
    const backup = await at('backup', ...tokenOptions(3), '--json');
    expect([backup.code, json(backup)]).toMatchObject([0, { objects: objects.length, left: [] }]);
    for (const { handle } of objects) expect((await at('key', 'destroy', String(handle), '--yes')).code).toBe(0);
    expect(json(await at('objects', '--json')).objects).toEqual([]);
    const restored = await at('restore', ...tokenOptions(3), '--json');
    expect([restored.code, json(restored)]).toEqual([0, { restored: objects.length, present: 0, failed: [] }]);
    const handles = (all: { handle: number }[]): number[] => all.map(({ handle }) => handle).sort();
    expect(handles(json(await at('objects', '--json')).objects)).toEqual(handles(objects));
  });

  test('the PIN is changed on all members, and in its file', async () => {
    const next = join(folder.path, 'next.pin');
    writeFileSync(next, '77777777\n');
    const { mode } = statSync(`${path}.pin`);
    expect((await at('pin', 'change', '--new-pin-file', next)).code).toBe(0);
    expect(readFileSync(`${path}.pin`, 'utf8')).toBe('77777777\n');
    expect(statSync(`${path}.pin`).mode).toBe(mode);
    expect((await at('status')).code).toBe(0);
    writeFileSync(next, `${hsm(0).pin}\n`);
    expect((await at('pin', 'change', '--new-pin-file', next)).code).toBe(0);
  });

  test('status is degraded with one member away, and fails with all members away', async () => {
    writeFileSync(controlOf(1), 'C_Initialize return=0x30\n');
    try {
      let one = await at('status', '--json');
      // Repeats the command while the member is just trying to come back.
      for (let tries = 0; json(one).members[1].state === 'joining' && tries < 100; tries += 1)
        one = await at('status', '--json');
      expect([one.code, json(one).state, json(one).members[1].state]).toEqual([3, 'degraded', 'down']);
      expect(json(one).isConfirmed).toBe(false);
      expect(json(one).members[1].reason).toMatch(/CKR_DEVICE_ERROR/u);
      expect((await at('objects')).code).toBe(3);
      const verified = await at('verify', '--json');
      expect(verified.code).toBe(1);
      expect(json(verified).problems).toMatchObject([{ member: 'hsm2', severity: 'error' }]);
      const recovered = await at('recover', 'hsm2');
      expect(recovered.code).toBe(1);
      expectOneLine(recovered);
      writeFileSync(controlOf(0), 'C_Initialize return=0x30\n');
      const all = await at('status', '--json');
      expect([all.code, json(all).state]).toEqual([1, 'down']);
    } finally {
      for (const index of [0, 1]) writeFileSync(controlOf(index), '');
    }
    const verified = await at('verify', '--json');
    expect([verified.code, json(verified)]).toMatchObject([
      0,
      { problems: [], travels: { AES: 'wrapped' }, partial: {} },
    ]);
  });

  test('a deleted group leaves its objects on the tokens', async () => {
    expect((await at('group', 'delete', '--yes')).code).toBe(0);
    const labels = (await readToken(hsm(0))).map(({ label }) => label);
    expect(labels.filter((label) => label.startsWith('pkcs11-ha'))).toEqual([]);
    expect(labels.length).toBeGreaterThan(0);
  });
});
