import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import pkcs11 from '../../../src/faces/pkcs11js/index.js';
import { Cluster, quickPolicy } from '../../support/cluster.js';
import { type Handle, LoadedGroup } from '../../support/library.js';
import { aes, HMAC, mac, macOf, objects, room, SHA256, sign, text } from '../../support/loaded-keys.js';

let cluster: Cluster;
let group: LoadedGroup;
beforeAll(async () => {
  cluster = await Cluster.form('calls', [objects, objects]);
});
afterEach(() => {
  cluster.heal();
  group.close();
});
afterAll(() => cluster.close());

describe('synchronous calls', () => {
  test('[Rule 2] return from another member if one hangs, in any function', async () => {
    group = new LoadedGroup(cluster);
    const session = group.session();
    const key = group.find(session, 'mac');
    await group.untilActive();
    // Uses both members, so that both are known to have the key.
    for (let i = 0; i < 10; i += 1) sign(group, session, key);
    cluster.fault('hsm1', 'C_SignInit hang', 'C_Sign hang', 'C_DigestInit hang', 'C_GetAttributeValue hang');
    for (let i = 0; i < 10; i += 1) {
      expect(sign(group, session, key)).toEqual(macOf(mac.value, text));
      group.lib.C_DigestInit(session, SHA256);
      expect(group.lib.C_Digest(session, text, room())).toEqual(createHash('sha256').update(text).digest());
      const [label] = group.lib.C_GetAttributeValue(session, key, [{ type: pkcs11.CKA_LABEL }]);
      expect(label?.value.toString()).toBe('mac');
    }
  });

  test('[Rule 2] end at the deadline if no member answers', async () => {
    group = new LoadedGroup(cluster, cluster.configuration({ ...quickPolicy, deadline: 600 }));
    const session = group.session();
    const key = group.find(session, 'mac');
    sign(group, session, key);
    cluster.fault('hsm1', 'C_Sign hang', 'C_Initialize hang');
    cluster.fault('hsm2', 'C_Sign hang', 'C_Initialize hang');
    group.lib.C_SignInit(session, HMAC, key);
    expect(() => group.lib.C_Sign(session, text, room())).toThrow(pkcs11.Pkcs11Error);
    cluster.heal();
    await group.untilActive();
    expect(sign(group, session, key)).toEqual(macOf(mac.value, text));
  });
});

describe('input that makes pkcs11js end the process', () => {
  test('throws an error', () => {
    group = new LoadedGroup(cluster);
    const session = group.session();
    const { lib } = group;
    for (const value of [5n, {}, Symbol('x'), () => 0])
      expect(() => lib.C_CreateObject(session, [{ type: pkcs11.CKA_LABEL, value: value as never }])).toThrow(TypeError);
    for (const element of [null, 5, {}])
      expect(() => lib.C_CreateObject(session, [element as never])).toThrow(TypeError);
    const parameter = { type: 999 };
    expect(() => lib.C_DigestInit(session, { mechanism: pkcs11.CKM_SHA256, parameter })).toThrow(TypeError);
    const nested = 0x4000_0211;
    expect(() => lib.C_CreateObject(session, [{ type: nested, value: Buffer.alloc(24, 0xff) }])).toThrow(TypeError);
    const key = group.find(session, 'aes');
    for (const value of [null, Buffer.alloc(24, 0xff)])
      expect(() => lib.C_GetAttributeValue(session, key, [{ type: nested, value: value as Buffer }])).toThrow();
    expect(lib.C_GetAttributeValue(session, key, [{ type: pkcs11.CKA_LABEL }])).toHaveLength(1);
    const raw = { mechanism: pkcs11.CKM_AES_GCM, parameter: Buffer.alloc(48, 0xff) };
    expect(() => lib.C_EncryptInit(session, raw, key)).toThrow(TypeError);
  });

  test('inputs of calls with callbacks are copied', async () => {
    group = new LoadedGroup(cluster);
    const session = group.session();
    group.lib.C_SignInit(session, HMAC, group.find(session, 'mac'));
    const data = Buffer.from('data that is overwritten');
    const signature = new Promise((resolve, reject) => {
      group.lib.C_Sign(session, data, room(), (error: unknown, result: unknown) =>
        error ? reject(error) : resolve(result),
      );
    });
    data.fill(0);
    expect(await signature).toEqual(macOf(mac.value, Buffer.from('data that is overwritten')));
  });

  test('a parameter may be overwritten after the Init', () => {
    group = new LoadedGroup(cluster);
    const session = group.session();
    const key = group.find(session, 'aes');
    const iv = randomBytes(16);
    const cipher = createCipheriv('aes-256-cbc', aes.value, Buffer.from(iv));
    group.lib.C_EncryptInit(session, { mechanism: pkcs11.CKM_AES_CBC_PAD, parameter: iv }, key);
    iv.fill(0);
    const expected = Buffer.concat([cipher.update(text), cipher.final()]);
    expect(group.lib.C_Encrypt(session, text, room())).toEqual(expected);
  });
});

test('ten thousand sessions at once need no more than the lanes of the members', () => {
  const configuration = cluster.configuration();
  for (const member of configuration.members) Object.assign(member, { lanes: 8 });
  for (const { name } of cluster.members) cluster.fault(name, 'C_OpenSession trace', 'C_CloseSession trace');
  group = new LoadedGroup(cluster, configuration);
  const before = cluster.members.map(({ name }) => cluster.met(name).length);
  const sessions = Array.from({ length: 10_000 }, () => group.session());
  const key = group.find(sessions[0] as Handle, 'mac');
  for (const session of sessions) {
    group.lib.C_DigestInit(session, SHA256);
    group.lib.C_DigestUpdate(session, text);
  }
  const expected = createHash('sha256').update(text).digest();
  for (const session of sessions.slice(0, 200)) expect(group.lib.C_DigestFinal(session, room())).toEqual(expected);
  for (const session of sessions.slice(0, 200)) expect(sign(group, session, key)).toEqual(macOf(mac.value, text));
  for (const [at, { name }] of cluster.members.entries()) {
    let open = 0;
    let most = 0;
    for (const line of cluster.met(name).slice(before[at])) {
      open += line.includes('C_OpenSession') ? 1 : -1;
      most = Math.max(most, open);
    }
    expect(most).toBeLessThanOrEqual(8);
  }
  const info = group.lib.C_GetTokenInfo(group.slot);
  expect(info.sessionCount).toBe(10_000);
  group.lib.C_CloseAllSessions(group.slot);
  expect(() => group.lib.C_GetSessionInfo(sessions[0] as Handle)).toThrow('CKR_SESSION_HANDLE_INVALID');
});
