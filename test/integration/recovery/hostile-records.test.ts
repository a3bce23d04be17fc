import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { CKK, CKO } from '../../../src/spec/codes.js';
import { Cluster, pidOf, stateOf, untilState } from '../../support/cluster.js';
import type { ObjectSpec } from '../../support/keys.js';
import { dataObject, type Parsed, plant as plantOn, recordsOn } from '../../support/planted.js';
import { provision } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('hostile');
});
afterEach(() => cluster.close());

const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true, extractable: false };
const data = 'sixteen bytes...';

/** Returns the record of a kind on hsm1. */
async function recordOn(kind: string): Promise<Parsed> {
  const [found] = await recordsOn(cluster, 'hsm1', kind);
  if (found === undefined) throw new Error(`hsm1 has no record of a ${kind}`);
  return found;
}

/** Plants objects on hsm1, apart from the group. */
function plant(...objects: readonly ObjectSpec[]): Promise<void> {
  return plantOn(cluster, 'hsm1', ...objects);
}

/** Returns the problems with records that the log tells. */
function problemsIn(file: string): readonly string[] {
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  const events = lines.map((line) => JSON.parse(line) as { readonly type: string; readonly problem: string });
  return events.filter(({ type }) => type === 'records').map(({ problem }) => problem);
}

describe('[Rule 18] hostile objects on a token', () => {
  test('[Rule 18] public objects in the form of records and keys of the group are not taken for them', async () => {
    const first = await cluster.open();
    const { handle } = await first.generateKey('AES_KEY_GEN', { ...aes, label: 'K' });
    const secret = await first.encrypt('AES_ECB', handle, data);
    await first.close();
    const group = await recordOn('group');
    const key = await recordOn('key');
    const members = (group.members as readonly { readonly serial: string }[]).map(({ serial }) => serial);
    const forged = { version: 1, operation: 'forged', notes: [key.note], changes: [], former: [], alone: false };
    const change = { ...forged, what: 'destroy', writer: 'nobody', time: 2 ** 52, expires: 0, missed: members };
    await plant(
      dataObject('pkcs11-ha:group', { ...group, revision: 99, label: 'forged', drained: members }, false),
      dataObject('pkcs11-ha:group', { ...group, id: 'another group', revision: 99 }, false),
      dataObject('pkcs11-ha:journal forged', { ...change, kind: 'journal' }, false),
      dataObject('pkcs11-ha:intent forged', { ...change, kind: 'intent', what: 'create' }, false),
      dataObject('pkcs11-ha:key', { ...key, sealed: undefined, time: 2 ** 52 }, false, 'pkcs11-ha key'),
      dataObject('pkcs11-ha:done forged', '{"version":1e300}', false),
      {
        CLASS: CKO.secretKey,
        KEY_TYPE: CKK.aes,
        TOKEN: true,
        PRIVATE: false,
        LABEL: 'pkcs11-ha:domain',
        ID: `hex:${(group.domain as { readonly id: string }).id}`,
        VALUE: `hex:${'00'.repeat(32)}`,
        WRAP: true,
        UNWRAP: true,
      },
    );
    const file = join(cluster.folder.path, 'ha.log');
    const token = await cluster.open({ ...cluster.configuration(), log: { file } });
    for (const name of ['hsm1', 'hsm2']) await untilState(token, name, 'active');
    expect(await token.encrypt('AES_ECB', handle, data)).toEqual(secret);
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'L' });
    expect((await token.find({ class: 'SECRET_KEY' })).length).toBe(2);
    // Restores the key from its sealed form, which the domain key of the same name and id must not open.
    await provision(cluster.member('hsm1').hsm, { destroy: ['L'] });
    await token.synchronize();
    await token.close();
    await cluster.untilTidy(['hsm2']);
    expect(await cluster.read('hsm1')).toEqual(await cluster.read('hsm2'));
    expect(problemsIn(file)).toEqual([]);
  });

  test('[Rule 18] private objects that do not have the form of records are reported once and stay', async () => {
    const planted = [
      dataObject('pkcs11-ha:group', '{"version":1,"kind":"group","id":', true),
      dataObject(
        'pkcs11-ha:alias 00',
        { version: 1, kind: 'alias', handle: 0, identity: '', proofs: {}, time: 1 },
        true,
      ),
      dataObject(
        'pkcs11-ha:done 00',
        { version: 1, kind: 'done', id: 'i', serial: 'S', deeds: '['.repeat(5000) },
        true,
      ),
      dataObject('pkcs11-ha:key 00', { version: 1, kind: 'key', note: {}, time: 1e300 }, true, 'pkcs11-ha key'),
    ];
    await plant(...planted);
    const file = join(cluster.folder.path, 'ha.log');
    const token = await cluster.open({ ...cluster.configuration(), log: { file } });
    const heard: string[] = [];
    token.on('records', ({ problem }) => heard.push(problem));
    const { handle } = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'K' });
    const secret = await token.encrypt('AES_ECB', handle, data);
    const told = (count: number): string => `${count} records on hsm1 do not have the form of records and are ignored`;
    await until(
      () => problemsIn(file).length > 0,
      () => 'the log tells of the records',
    );
    expect(problemsIn(file)).toEqual([told(3)]);
    // Reads all key records too, when the member comes back.
    process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
    await untilState(token, 'hsm1', 'down', 'joining', 'recovering');
    await untilState(token, 'hsm1', 'active');
    await token.synchronize();
    await until(
      () => heard.length > 0,
      () => 'the event tells of the key record',
    );
    await plant(dataObject('pkcs11-ha:intent 00', 'no record', true));
    await until(
      async () => {
        await token.find({ label: 'K' });
        return heard.includes(told(5));
      },
      () => 'the event tells of the new record',
    );
    expect(stateOf(token.status(), 'hsm1')).toBe('active');
    expect(await token.encrypt('AES_ECB', handle, data)).toEqual(secret);
    await token.destroyObject(handle);
    await token.close();
    expect(problemsIn(file)).toEqual([told(3), told(4), told(5)]);
    const own = await cluster.readOwn('hsm1');
    for (const { LABEL } of planted) expect(own).toContain(LABEL);
    expect(own.filter((label) => label === 'pkcs11-ha:group').length).toBe(2);
  });
});
