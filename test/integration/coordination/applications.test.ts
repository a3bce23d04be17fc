import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { CoordinationEvent, GroupConfigInput, TokenObject } from '../../../src/index.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';
import { CommandedProgram, namespaceProblem } from '../../support/commanded.js';
import { startService } from '../../support/process.js';

const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true, extractable: false };
const data = Buffer.from('sixteen bytes...');
/** Number of labels under which both applications make a key. */
const ROUNDS = 6;
/** Policy with which nothing is taken for hung on a busy machine. */
const policy = { hangAfter: 5000, writeHangAfter: 10_000, deadline: 20_000 } as const;

let cluster: Cluster;
let configuration: GroupConfigInput;
const programs: CommandedProgram<unknown>[] = [];
beforeEach(async () => {
  cluster = await Cluster.form('coordination');
  configuration = { ...cluster.configuration(policy), locks: join(cluster.folder.path, 'locks') };
});
afterEach(async () => {
  await Promise.all(programs.splice(0).map((program) => program.end()));
  await cluster.close();
});

const problem = namespaceProblem();
if (problem !== undefined) console.warn(`Skips the tests in other namespaces: unshare is not permitted (${problem}).`);

/** Application with the methods that the tests call. */
interface Application {
  generateKey(label: string): Promise<TokenObject>;
  encrypt(handle: number): Promise<Buffer>;
  destroy(handle: number): Promise<unknown>;
  handlesOf(label: string): Promise<readonly number[]>;
}

/** Opens the group in this process. */
async function openHere(): Promise<Application> {
  const token = await cluster.open(configuration);
  return {
    generateKey: (label) => token.generateKey('AES_KEY_GEN', { ...aes, label }),
    encrypt: (handle) => token.encrypt('AES_ECB', handle, data),
    destroy: (handle) => token.destroyObject(handle),
    handlesOf: async (label) => (await token.find({ label })).map(({ handle }) => handle),
  };
}

/** Opens the group in another process, which may have namespaces of its own. */
async function openElsewhere(isFar: boolean): Promise<Application> {
  const program = new CommandedProgram('application', [JSON.stringify(configuration)], { isFar });
  programs.push(program);
  await program.ready;
  const ask = <T>(method: string, ...values: readonly unknown[]): Promise<T> =>
    program.ask(method, ...values) as Promise<T>;
  return {
    generateKey: (label) => ask('generateKey', 'AES_KEY_GEN', { ...aes, label }),
    encrypt: (handle) => ask('encrypt', 'AES_ECB', handle, data),
    destroy: (handle) => ask('destroyObject', handle),
    handlesOf: async (label) => (await ask<TokenObject[]>('find', { label })).map(({ handle }) => handle),
  };
}

/** Expects that an application finds exactly the keys of a label. */
async function expectFound(application: Application, label: string, handles: readonly number[]): Promise<void> {
  expect([...(await application.handlesOf(label))].sort()).toEqual([...handles].sort());
}

describe('two applications', () => {
  const placed = [
    ['of one machine', false, test],
    ['in PID, network and mount namespaces of their own', true, problem === undefined ? test : test.skip],
  ] as const;
  for (const [where, isFar, run] of placed)
    run(
      `[Rule 27] ${where} make keys of the same labels at the same moments: each has a handle of its own`,
      async () => {
        const [one, other] = await Promise.all([openHere(), openElsewhere(isFar)]);
        const labels = Array.from({ length: ROUNDS }, (_, index) => `label ${index}`);
        const made: (readonly [TokenObject, TokenObject])[] = [];
        for (const label of labels) made.push(await Promise.all([one.generateKey(label), other.generateKey(label)]));
        expect(new Set(made.flat().map(({ handle }) => handle)).size).toBe(2 * ROUNDS);
        await cluster.untilTidy();
        const [first, second] = [await cluster.read('hsm1'), await cluster.read('hsm2')];
        expect(second).toEqual(first);
        expect(first.map(({ label }) => label).sort()).toEqual([...labels, ...labels].sort());
        expect(new Set(first.map(({ fingerprint }) => fingerprint)).size).toBe(2 * ROUNDS);
        for (const [index, keys] of made.entries()) {
          const handles = keys.map(({ handle }) => handle).sort();
          for (const each of [one, other]) await expectFound(each, labels[index] ?? '', handles);
          const results = await Promise.all(handles.map((handle) => one.encrypt(handle)));
          expect(results[0]).not.toEqual(results[1]);
          expect(await Promise.all(handles.map((handle) => other.encrypt(handle)))).toEqual(results);
        }
      },
    );

  test('[Rule 27] destroy one of two keys of a label: its handle is void in both, and the other key stays', async () => {
    const [one, other] = await Promise.all([openHere(), openElsewhere(false)]);
    const [mine, theirs] = await Promise.all([one.generateKey('label'), other.generateKey('label')]);
    for (const each of [one, other]) await expectFound(each, 'label', [mine.handle, theirs.handle]);
    const result = await one.encrypt(theirs.handle);
    expect(await other.encrypt(mine.handle)).toEqual(await one.encrypt(mine.handle));
    await one.destroy(mine.handle);
    for (const each of [one, other]) {
      await expect(each.encrypt(mine.handle)).rejects.toThrow('CKR_KEY_HANDLE_INVALID');
      expect(await each.encrypt(theirs.handle)).toEqual(result);
      await expectFound(each, 'label', [theirs.handle]);
    }
    for (const name of ['hsm1', 'hsm2'])
      expect((await cluster.read(name)).filter(({ label }) => label === 'label').length).toBe(1);
  });

  test('with different lock folders are told so, once', async () => {
    const token = await cluster.open(configuration);
    const told: CoordinationEvent[] = [];
    token.on('coordination', (event) => told.push(event));
    const service = startService('change:generate:elsewhere', {
      ...configuration,
      locks: join(cluster.folder.path, 'elsewhere'),
    });
    await service.told;
    cluster.fault('hsm2', 'C_UnwrapKey hang');
    service.child.stdin?.write('go\n');
    try {
      await cluster.untilMet('hsm2', /C_UnwrapKey/u);
      // Finds the other's intent on hsm1 whenever hsm1 comes back.
      for (let round = 0; round < 2; round += 1) {
        process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
        await untilState(token, 'hsm1', 'down', 'joining');
        await untilState(token, 'hsm1', 'active');
      }
      expect(told).toEqual([
        { type: 'coordination', problem: expect.stringContaining(`than ${configuration.locks}: give both the same`) },
      ]);
    } finally {
      cluster.heal();
      await service.ended;
    }
  });
});
