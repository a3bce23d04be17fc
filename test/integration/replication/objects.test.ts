import { createHmac, randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { InputError, type TokenObject, type VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';
import { rsaPair } from '../../support/keys.js';
import { until } from '../../support/waiting.js';

const theirs = rsaPair('theirs');
let cluster: Cluster;
let token: VirtualToken;
let key: TokenObject;
beforeAll(async () => {
  cluster = await Cluster.form('objects', [theirs.objects, theirs.objects]);
  token = await cluster.open();
  key = await token.generateKey('AES_KEY_GEN', { token: true, label: 'key', valueLen: 32, encrypt: true, wrap: true });
});
afterAll(() => cluster.close());

const members = ['hsm1', 'hsm2'] as const;
const aes = { class: 'SECRET_KEY', keyType: 'AES' } as const;
const paramsEC = Buffer.from('06082a8648ce3d030107', 'hex');
const macOf = (value: Buffer): Buffer => createHmac('sha256', value).update('data').digest();

async function kill(name: string): Promise<void> {
  const before = pidOf(token, name);
  process.kill(before, 'SIGKILL');
  await untilState(token, name, 'down', 'joining', 'recovering');
  await untilState(token, name, 'active');
}

describe('session objects', () => {
  const value = randomBytes(40);
  const secret = { class: 'SECRET_KEY', keyType: 'GENERIC_SECRET', sign: true, value };

  test('are on every member, and on no token', async () => {
    const session = await token.createObject({ ...secret, label: 'session' });
    for (let i = 0; i < 4; i += 1) expect(await token.sign('SHA256_HMAC', session, 'data')).toEqual(macOf(value));
    expect(await token.find({ label: 'session' })).toEqual([session]);
    for (const name of members)
      expect((await cluster.read(name)).filter(({ label }) => label === 'session')).toEqual([]);
    await token.destroyObject(session);
    expect(await token.find({ label: 'session' })).toEqual([]);
    await expect(token.sign('SHA256_HMAC', session, 'data')).rejects.toMatchObject({ code: 0x60 });
  });

  test.each([true, false])('[Rule 13] are made again on a replaced host, extractable: %s', async (extractable) => {
    const generated = await token.generateKey('GENERIC_SECRET_KEY_GEN', {
      valueLen: 40,
      sign: true,
      extractable,
      label: 'again',
    });
    const data = await token.createObject({ class: 'DATA', label: 'again', value });
    const mac = await token.sign('SHA256_HMAC', generated, 'data');
    // Replaces each host in turn, so that no host is left on which the object was made.
    for (const name of members) await kill(name);
    for (let i = 0; i < 4; i += 1) expect(await token.sign('SHA256_HMAC', generated, 'data')).toEqual(mac);
    expect((await token.getAttributes(data, ['value'])).value).toEqual(value);
    expect(await token.find({ label: 'again' })).toHaveLength(2);
    await token.destroyObject(generated);
    await token.destroyObject(data);
  });

  test('are made again after a loss of sessions and login', async () => {
    const generated = await token.generateKey('GENERIC_SECRET_KEY_GEN', { valueLen: 40, sign: true, label: 'dropped' });
    const mac = await token.sign('SHA256_HMAC', generated, 'data');
    for (const name of members) cluster.fault(name, 'C_SignInit drop times=1');
    for (let i = 0; i < 8; i += 1) expect(await token.sign('SHA256_HMAC', generated, 'data')).toEqual(mac);
    cluster.heal();
    expect(await token.find({ label: 'dropped' })).toEqual([generated]);
    await token.destroyObject(generated);
    expect(await token.find({ label: 'dropped' })).toEqual([]);
  });

  test('are invisible to other applications, and end with close()', async () => {
    const own = await cluster.open();
    const session = await own.createObject({ ...secret, label: 'own' });
    expect(await token.find({ label: 'own' })).toEqual([]);
    await own.close();
    const next = await cluster.open();
    expect(await next.find({ label: 'own' })).toEqual([]);
    await expect(next.sign('SHA256_HMAC', session, 'data')).rejects.toMatchObject({ code: 0x60 });
    await next.close();
  });

  test('can be made into token objects by a copy', async () => {
    const session = await token.createObject({ ...secret, extractable: true });
    const kept = await token.copyObject(session, { token: true, label: 'kept' });
    for (const name of members)
      expect((await cluster.read(name)).filter(({ label }) => label === 'kept')).toHaveLength(1);
    for (let i = 0; i < 4; i += 1) expect(await token.sign('SHA256_HMAC', kept, 'data')).toEqual(macOf(value));
  });
});

describe('without login', () => {
  test('private objects do not exist and cannot be made, public ones can be used and changed', async () => {
    const open = await VirtualTokenWithoutLogin();
    const found = await open.find();
    expect(found.map(({ label, class: name }) => `${name} ${label}`)).toEqual(['PUBLIC_KEY theirs']);
    await expect(open.encrypt('AES_ECB', key.handle, randomBytes(16))).rejects.toMatchObject({ code: 0x60 });
    await expect(open.getAttributes(key.handle, ['label'])).rejects.toMatchObject({ code: 0x82 });
    await expect(open.generateKey('AES_KEY_GEN', { valueLen: 32 })).rejects.toMatchObject({ code: 0x101 });
    const made = await open.createObject({ class: 'DATA', label: 'for all', private: false, value: 'x' });
    const renamed = await open.setAttributes(made, { label: 'for everybody' });
    expect(renamed.label).toBe('for everybody');
    await open.destroyObject(renamed);
    expect(await open.find({ label: 'for everybody' })).toEqual([]);
    await open.close();
  });

  async function VirtualTokenWithoutLogin(): Promise<VirtualToken> {
    const { VirtualToken: opened } = await import('../../../src/index.js');
    return await opened.open(cluster.configuration(), { login: false });
  }
});

describe('attributes that a token forgets', () => {
  test('are the same from every member, in this process and in the next', async () => {
    const names = [
      'local',
      'keyGenMechanism',
      'alwaysSensitive',
      'neverExtractable',
      'valueLen',
      'checkValue',
    ] as const;
    const made = await token.generateKey('AES_KEY_GEN', {
      token: true,
      label: 'forgotten',
      valueLen: 24,
      sensitive: true,
    });
    const first = await token.getAttributes(made, names);
    expect(first).toMatchObject({
      local: true,
      keyGenMechanism: 0x1080,
      alwaysSensitive: true,
      neverExtractable: false,
      valueLen: 24,
    });
    const other = await cluster.open();
    await other.find();
    for (let i = 0; i < 4; i += 1) {
      expect(await token.getAttributes(made, names)).toEqual(first);
      expect(await other.getAttributes(made.handle, names)).toEqual(first);
    }
    await other.close();
  });
});

describe('changing attributes', () => {
  test('is verified on each member, and a fixed attribute is refused before any member is asked', async () => {
    const made = await token.generateKey('AES_KEY_GEN', {
      token: true,
      label: 'change',
      valueLen: 32,
      encrypt: true,
      extractable: true,
    });
    await token.setAttributes(made, { encrypt: false, extractable: false, sensitive: true });
    const read = await Promise.all(members.map((name) => cluster.read(name)));
    for (const objects of read) {
      const [object] = objects.filter(({ label }) => label === 'change');
      expect(object).toMatchObject({ wrapped: 'CKR_KEY_UNEXTRACTABLE', value: 'CKR_ATTRIBUTE_SENSITIVE' });
      expect(object?.flags).not.toContain('ENCRYPT');
    }
    await expect(token.encrypt('AES_ECB', made, randomBytes(16))).rejects.toMatchObject({ code: 0x68 });
  });

  test('[Rule 9] writes to one member after the other', async () => {
    const key = await token.generateKey('AES_KEY_GEN', { token: true, label: 'in turn', valueLen: 32 });
    for (const name of members) cluster.fault(name, 'C_SetAttributeValue hang');
    const changed = token.setAttributes(key, { label: 'in turn, renamed' });
    const asked = (): number =>
      members.filter((name) => cluster.met(name).some((line) => line.includes('C_SetAttributeValue hang'))).length;
    await until(
      () => asked() > 0,
      () => 'a member is asked to set the label',
    );
    // Gives the other member time to be asked, as it would be without the rule.
    await wait(200);
    expect(asked()).toBe(1);
    cluster.heal();
    expect(await changed).toMatchObject({ label: 'in turn, renamed' });
    expect(asked()).toBe(1);
  });

  test('is undone on the other members if one member refuses', async () => {
    const made = await token.generateKey('AES_KEY_GEN', { token: true, label: 'refused', valueLen: 32 });
    cluster.fault('hsm2', 'C_SetAttributeValue return=0x10 times=1');
    await expect(token.setAttributes(made, { label: 'accepted', id: Buffer.from('x') })).rejects.toMatchObject({
      code: 0x10,
      member: 'hsm2',
    });
    cluster.heal();
    for (const name of members) {
      expect((await cluster.read(name)).filter(({ label }) => label === 'accepted')).toEqual([]);
      expect((await cluster.read(name)).filter(({ label }) => label === 'refused')).toHaveLength(1);
      expect((await cluster.readOwn(name)).filter((label) => /intent|journal/u.test(label))).toEqual([]);
    }
    expect((await token.find({ label: 'refused' })).map(({ handle }) => handle)).toEqual([made.handle]);
  });
});

describe('bad requests', () => {
  type Call = () => Promise<unknown>;
  const generate =
    (template: Record<string, unknown>, mechanism = 'AES_KEY_GEN') =>
    () =>
      token.generateKey(mechanism, template);
  const create = (template: Record<string, unknown>) => () => token.createObject(template);
  const cases: readonly (readonly [what: string, call: Call, code: number])[] = [
    ['a key of no length', generate({ token: true }), 0xd0],
    ['an AES key of 17 bytes', generate({ valueLen: 17 }), 0x13],
    ['a template for a public key', generate({ valueLen: 32, class: 'PUBLIC_KEY' }), 0xd1],
    ['another key type than the mechanism makes', generate({ valueLen: 32, keyType: 'DES3' }), 0xd1],
    ['a value for what is generated', generate({ valueLen: 32, value: Buffer.alloc(32) }), 0xd1],
    ['a modulus for an AES key', generate({ valueLen: 32, modulus: Buffer.alloc(8) }), 0x12],
    ["an attribute that is the token's to set", generate({ valueLen: 32, local: true }), 0x10],
    ['a boolean of two bytes', generate({ valueLen: 32, encrypt: Buffer.alloc(2) }), 0x13],
    ['a mechanism that generates nothing', generate({ valueLen: 32 }, 'AES_CBC'), 0x70],
    ['a mechanism that generates pairs', generate({}, 'RSA_PKCS_KEY_PAIR_GEN'), 0x70],
    ['an object of no class', create({ label: 'x' }), 0xd0],
    ['an object of an unknown class', create({ class: 77, label: 'x' }), 0x13],
    ['a key without its type', create({ class: 'SECRET_KEY', value: Buffer.alloc(16) }), 0xd0],
    ['a key without its value', create(aes), 0xd0],
    ['a certificate without its value', create({ class: 'CERTIFICATE', certType: 'X_509' }), 0xd0],
    ["a data object with a key's attribute", create({ class: 'DATA', encrypt: true }), 0x12],
    ['a pair without its curve', () => token.generateKeyPair('EC_KEY_PAIR_GEN', { token: true }, {}), 0xd0],
    ["a pair of a single key's mechanism", () => token.generateKeyPair('AES_KEY_GEN', { paramsEC }, {}), 0x70],
    ['a copy of another type', () => token.copyObject(key, { keyType: 'DES3' }), 0x10],
    ['a new class', () => token.setAttributes(key, { class: 'DATA' }), 0x10],
    ['a new value', () => token.setAttributes(key, { value: Buffer.alloc(32) }), 0x10],
    ['a key that is no longer sensitive', () => token.setAttributes(key, { sensitive: false }), 0x10],
    ['an unknown key to wrap with', () => token.wrapKey('AES_KEY_WRAP', 4711, key), 0x113],
    ['an unknown key to wrap', () => token.wrapKey('AES_KEY_WRAP', key, 4711), 0x60],
    ['an unknown key to unwrap with', () => token.unwrapKey('AES_KEY_WRAP', 4711, Buffer.alloc(40), aes), 0xf0],
    ['an unwrapped key of no type', () => token.unwrapKey('AES_KEY_WRAP', key, Buffer.alloc(40), {}), 0xd0],
    ['an unknown key to derive from', () => token.deriveKey('ECDH1_DERIVE', 4711, aes), 0x60],
    ['an unknown object to copy', () => token.copyObject(4711, {}), 0x82],
    ['an unknown object to destroy', () => token.destroyObject(4711), 0x82],
  ];

  test('get the code that PKCS#11 names, and no member is touched', async () => {
    // Makes the process look for the unknown handle before the faults are set.
    await expect(token.destroyObject(4711)).rejects.toMatchObject({ code: 0x82 });
    await token.find();
    for (const name of members) {
      cluster.fault(
        name,
        ...['C_CreateObject', 'C_CopyObject', 'C_GenerateKey', 'C_GenerateKeyPair', 'C_UnwrapKey', 'C_DeriveKey']
          .concat(['C_SetAttributeValue', 'C_DestroyObject', 'C_WrapKey'])
          .map((call) => `${call} trace`),
      );
    }
    for (const [what, call, code] of cases) {
      const error = await call().then(
        () => ({ code: 'none' }),
        (thrown: unknown) => thrown,
      );
      expect([what, (error as { code: unknown }).code]).toEqual([what, code]);
    }
    // Spare hosts may still refresh the tokens, since another process has just changed objects.
    const touched = members.flatMap((name) =>
      cluster.met(name).filter((line) => line.startsWith(`${pidOf(token, name)} `) && line.includes('trace')),
    );
    expect(touched).toEqual([]);
    cluster.heal();
  });

  test.each([
    ['a wrapping key of the wrong class', () => wrongClass('wrap'), 0x115],
    ['an unwrapping key of the wrong class', () => wrongClass('unwrap'), 0xf2],
    ['a public key to derive from', () => wrongClass('derive'), 0x63],
    ['a data object to wrap', () => wrongClass('target'), 0x69],
  ] as const)('%s', async (_what, call, code) => {
    await expect(call()).rejects.toMatchObject({ code });
  });

  async function wrongClass(what: 'wrap' | 'unwrap' | 'derive' | 'target'): Promise<unknown> {
    const own = await token.get({ label: 'theirs', class: 'PRIVATE_KEY' });
    const open = await token.get({ label: 'theirs', class: 'PUBLIC_KEY' });
    switch (what) {
      case 'wrap':
        return await token.wrapKey('RSA_PKCS', own, key);
      case 'unwrap':
        return await token.unwrapKey('RSA_PKCS', open, Buffer.alloc(256), aes);
      case 'derive':
        return await token.deriveKey('ECDH1_DERIVE', open, aes);
      case 'target':
        return await token.wrapKey('AES_KEY_WRAP', key, open);
    }
  }

  test('of a wrong shape get an error that names the field', async () => {
    await expect(token.generateKey('AES_KEY_GEN', { vallueLen: 32 })).rejects.toThrow(InputError);
    await expect(token.generateKey('NO_KEY_GEN', {})).rejects.toThrow(
      "mechanism: expected the name of a mechanism (not 'NO_KEY_GEN'), got a string",
    );
    await expect(token.createObject(undefined as never)).rejects.toMatchObject({ code: 0xd0 });
    await expect(token.unwrapKey('AES_KEY_WRAP', key, 5 as never, aes)).rejects.toThrow('wrapped: expected');
  });
});
