import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { fileNameOf } from '../../../src/runtime/coordination/local/lock-folder.js';
import { Cluster } from '../../support/cluster.js';
import { dataObject, plant } from '../../support/planted.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('pin-hints', [[], [], []]);
});
afterEach(async () => {
  await cluster.close();
  // Other tests share this worker's lock folder.
  const locks = join(process.env.PKCS11_HA_LOCKS ?? '', fileNameOf('test group'));
  rmSync(join(locks, 'refused'), { recursive: true, force: true });
});

const names = (): string[] => cluster.members.map(({ name }) => name);
const logins = (name: string): number => cluster.met(name).filter((line) => line.includes('C_Login trace')).length;

/** Writes PIN notes on every token, as anybody can who opens a session on it; no PIN record belongs to them. */
async function plantHints(count: number, time: number): Promise<void> {
  const serials = cluster.members.map(({ hsm }) => hsm.serial);
  for (const name of names()) {
    const hints = Array.from({ length: count }, (_, index) => {
      const note = {
        version: 2,
        kind: 'pin',
        operation: `hint ${index}`,
        state: 'changing',
        participants: serials,
        missed: serials,
        writer: 'nobody',
        time: time + index,
        expires: 0,
      };
      return dataObject('pkcs11-ha:pin-change', note, false);
    });
    await plant(cluster, name, ...hints);
  }
}

const LATE = Number.MAX_SAFE_INTEGER - 1000;

describe('[Rule 18] hints of a PIN change that anybody can write', () => {
  test('change nothing with the right PIN, and are removed and reported', async () => {
    await plantHints(17, LATE);
    const log = join(cluster.folder.path, 'events.log');
    const token = await cluster.open({ ...cluster.configuration(), log: { file: log } });
    const key = await token.generateKey('AES_KEY_GEN', { token: true, label: 'k', valueLen: 32, encrypt: true });
    await token.encrypt('AES_ECB', key, Buffer.alloc(16));
    expect(token.status().members.map(({ state }) => state)).toEqual(['active', 'active', 'active']);
    for (const name of names()) {
      await until(
        async () => !(await cluster.readOwn(name)).includes('pkcs11-ha:pin-change'),
        () => `the hints on ${name} are removed`,
      );
      expect(readFileSync(log, 'utf8')).toContain(`a PIN note on ${name} had no PIN record and was removed`);
    }
    expect(await token.changePin('98765432')).toMatchObject({ changed: names() });
  });

  test('[Rule 6] let one further member be tried with a wrong PIN, and no third one', async () => {
    await plantHints(3, LATE);
    for (const name of names()) cluster.fault(name, 'C_Login trace');
    process.env[cluster.pinVariable] = '00000000';
    await expect(cluster.open()).rejects.toMatchObject({ code: 0xa0 });
    const tries = names().map(logins);
    expect(tries.reduce((sum, each) => sum + each, 0)).toBe(2);
    expect(Math.max(...tries)).toBe(1);
    // Now two tokens have few tries left: none of them is tried because of a hint.
    process.env[cluster.pinVariable] = '11111111';
    await expect(cluster.open()).rejects.toMatchObject({ code: 0xa0 });
    expect(
      names()
        .map(logins)
        .reduce((sum, each) => sum + each, 0),
    ).toBeLessThanOrEqual(4);
    expect(Math.max(...names().map(logins))).toBeLessThanOrEqual(2);
  });
});
