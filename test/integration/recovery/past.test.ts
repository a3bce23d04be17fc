import { cpSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { TokenObject, VirtualToken } from '../../../src/index.js';
import { Cluster, untilState } from '../../support/cluster.js';
import { copyHsm, type Hsm, provision } from '../../support/softhsm.js';

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('past');
});
afterEach(() => cluster.close());

const key = (token: VirtualToken, label: string): Promise<TokenObject> =>
  token.generateKey('AES_KEY_GEN', { token: true, label, valueLen: 32, encrypt: true, extractable: false });
const positions = async (name: string): Promise<readonly string[]> =>
  (await cluster.readOwn(name)).filter((label) => label.startsWith('pkcs11-ha:group-position '));

/** Puts a token back to the state of its copy. */
function putBack(hsm: Hsm, copy: Hsm): void {
  rmSync(hsm.directory, { recursive: true });
  cpSync(copy.directory, hsm.directory, { recursive: true });
}

/** Makes, renames and destroys keys, and puts a token back to its state in between; no process runs then. */
async function tellStory(name: string): Promise<{ readonly renamed: number; readonly made: number }> {
  const token = await cluster.open();
  const [gone, renamed] = [await key(token, 'gone'), await key(token, 'first name')];
  await token.close();
  const { hsm } = cluster.member(name);
  const copy = copyHsm(hsm, cluster.folder.path);
  const again = await cluster.open();
  await again.destroyObject(gone.handle);
  await again.setAttributes(renamed.handle, { label: 'second name' });
  const made = await key(again, 'made since');
  await again.close();
  putBack(hsm, copy);
  return { renamed: renamed.handle, made: made.handle };
}

test('each change is the position of all members', async () => {
  const token = await cluster.open();
  const made = await key(token, 'one');
  const first = await positions('hsm1');
  expect(first).toHaveLength(1);
  expect(await positions('hsm2')).toEqual(first);
  await token.setAttributes(made, { label: 'two' });
  const second = await positions('hsm1');
  expect(second).not.toEqual(first);
  expect(await positions('hsm2')).toEqual(second);
  await token.destroyObject(made);
  const third = await positions('hsm1');
  expect(third).not.toEqual(second);
  expect(await positions('hsm2')).toEqual(third);
});

describe('a token that was put back to an earlier state while no process ran', () => {
  // The member that joins first does not know of the other one's position yet.
  test.each(['hsm1', 'hsm2'])('is brought up to date when a process starts: %s', async (name) => {
    const { renamed, made } = await tellStory(name);
    const token = await cluster.open();
    await untilState(token, name, 'active');
    const expected = [
      { handle: made, label: 'made since' },
      { handle: renamed, label: 'second name' },
    ];
    const seen = async (): Promise<unknown> =>
      (await token.find())
        .map(({ handle, label }) => ({ handle, label }))
        .sort((one, other) => (one.label < other.label ? -1 : 1));
    await untilSame(seen, expected);
    await untilSame(async () => await labelsOn(name), ['made since', 'second name']);
    expect((await token.synchronize({ dryRun: true })).differences).toEqual([]);
    await token.close();
    expect(await positions('hsm1')).toEqual(await positions('hsm2'));
  });

  test('is repaired by synchronize, if its members have no positions', async () => {
    await tellStory('hsm2');
    for (const name of ['hsm1', 'hsm2'])
      await provision(cluster.member(name).hsm, { destroy: [...(await positions(name))] });
    const token = await cluster.open();
    const { differences } = await token.synchronize();
    const told = differences.map(({ kind, member, object, action }) => `${kind} ${member} ${object.label} ${action}`);
    expect(told).toContain('destroyed hsm2 gone repaired');
    expect(told).toContain('missing hsm2 made since repaired');
    expect(await labelsOn('hsm2')).not.toContain('gone');
    expect(await labelsOn('hsm1')).toEqual(['made since', 'second name']);
  });
});

const labelsOn = async (name: string): Promise<readonly string[]> =>
  (await cluster.read(name)).map(({ label }) => label).sort();

/** Waits until a reading gives what is expected. */
async function untilSame(read: () => Promise<unknown>, expected: unknown): Promise<void> {
  const end = Date.now() + 20_000;
  for (;;) {
    const last = await read();
    if (JSON.stringify(last) === JSON.stringify(expected)) return;
    if (Date.now() > end) expect(last).toEqual(expected);
  }
}
