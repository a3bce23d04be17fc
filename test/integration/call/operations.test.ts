import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { InputError, type TokenObject, type VirtualToken } from '../../../src/index.js';
import { Cluster } from '../../support/cluster.js';
import { ecPair, edPair, rsaPair, secretKey } from '../../support/keys.js';

const keys = {
  rsa: rsaPair('rsa'),
  p256: ecPair('p256'),
  p384: ecPair('p384', undefined, 'P-384'),
  ed: edPair('ed'),
  aes: secretKey('aes'),
  mac: secretKey('mac', undefined, { type: 'GENERIC_SECRET' }),
};
const objects = Object.values(keys).flatMap((key) => key.objects);
const data = randomBytes(300);

// Hands keys over as text, since node:crypto does not take key objects from jest's realm.
const publicOf = (key: KeyObject): KeyObject => createPublicKey(key.export({ format: 'pem', type: 'spki' }));
const privateOf = (key: KeyObject): KeyObject => createPrivateKey(key.export({ format: 'pem', type: 'pkcs8' }));

let cluster: Cluster;
let token: VirtualToken;
const own = (label: string): Promise<TokenObject> => token.get({ label, class: 'PRIVATE_KEY' });
const open = (label: string): Promise<TokenObject> => token.get({ label, class: 'PUBLIC_KEY' });
beforeAll(async () => {
  cluster = await Cluster.make('operations', [objects, objects]);
  token = await cluster.open();
});
afterAll(() => cluster.close());

/** Runs four times, so that both members take part: routing takes idle members in turn. */
async function twice(run: () => Promise<void>): Promise<void> {
  for (let i = 0; i < 4; i += 1) await run();
}

describe('signatures', () => {
  test.each([
    ['RSA PKCS#1', 'SHA256_RSA_PKCS', {}],
    ['RSA-PSS, by name', { name: 'SHA256_RSA_PKCS_PSS', params: { hash: 'SHA256', saltLength: 32 } }, pss()],
    [
      'RSA-PSS, as pkcs11js takes it',
      { mechanism: 0x43, parameter: { type: 5, hashAlg: 0x250, mgf: 2, saltLen: 32 } },
      pss(),
    ],
  ])('%s agree with node:crypto', async (_name, mechanism, options) => {
    const publicKey = publicOf(keys.rsa.publicKey);
    await twice(async () => {
      const signature = await token.sign(mechanism, await own('rsa'), data);
      expect(verify('sha256', data, { key: publicKey, ...options }, signature)).toBe(true);
      expect(await token.verify(mechanism, await open('rsa'), data, signature)).toBe(true);
      const theirs = sign('sha256', data, { key: privateOf(keys.rsa.privateKey), ...options });
      expect(await token.verify(mechanism, await open('rsa'), data, theirs)).toBe(true);
      expect(await token.verify(mechanism, await open('rsa'), Buffer.concat([data, data]), theirs)).toBe(false);
    });
  });

  test.each([
    ['p256', 'sha256'],
    ['p384', 'sha384'],
  ] as const)('ECDSA with %s agrees with node:crypto', async (name, hash) => {
    const publicKey = publicOf(keys[name].publicKey);
    const hashed = createHash(hash).update(data).digest();
    await twice(async () => {
      const signature = await token.sign('ECDSA', await own(name), hashed);
      expect(verify(hash, data, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
      expect(await token.verify('ECDSA', await open(name), hashed, signature)).toBe(true);
      expect(await token.verify('ECDSA', await open(name), hashed, signature.subarray(1))).toBe(false);
    });
  });

  test('Ed25519 agrees with node:crypto', async () => {
    await twice(async () => {
      const signature = await token.sign('EDDSA', await own('ed'), data);
      expect(verify(null, data, publicOf(keys.ed.publicKey), signature)).toBe(true);
      expect(await token.verify('EDDSA', await open('ed'), data, signature)).toBe(true);
    });
  });

  test('HMAC agrees with node:crypto', async () => {
    const key = await token.get({ label: 'mac' });
    const expected = createHmac('sha256', keys.mac.value).update(data).digest();
    await twice(async () => expect(await token.sign('SHA256_HMAC', key, data)).toEqual(expected));
    expect(await token.verify('SHA256_HMAC', key, data, expected)).toBe(true);
  });

  test('CMAC is the same on both members, and verifies', async () => {
    const key = await token.get({ label: 'aes' });
    const macs = new Set<string>();
    await twice(async () => {
      const mac = await token.sign('AES_CMAC', key, data);
      macs.add(mac.toString('hex'));
      expect(await token.verify('AES_CMAC', key, data, mac)).toBe(true);
    });
    expect(macs.size).toBe(1);
  });
});

function pss(): object {
  return { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
}

describe('encryption', () => {
  const iv = randomBytes(16);
  const nonce = randomBytes(12);
  const aad = Buffer.from('additional');

  test.each([
    ['AES-ECB', 'AES_ECB', 'aes-256-ecb', null, 32],
    ['AES-CBC', { name: 'AES_CBC', params: iv }, 'aes-256-cbc', iv, 32],
    ['AES-CBC with padding', { name: 'AES_CBC_PAD', params: iv }, 'aes-256-cbc', iv, 33],
    ['AES-CBC, raw', { mechanism: 0x1082, parameter: iv }, 'aes-256-cbc', iv, 32],
    ['AES-CTR', { name: 'AES_CTR', params: { counter: iv, bits: 128 } }, 'aes-256-ctr', iv, 33],
  ] as const)('%s agrees with node:crypto', async (_name, mechanism, cipherName, cipherIv, size) => {
    const key = await token.get({ label: 'aes' });
    const text = data.subarray(0, size);
    const cipher = createCipheriv(cipherName, keys.aes.value, cipherIv).setAutoPadding(size % 16 !== 0);
    const expected = Buffer.concat([cipher.update(text), cipher.final()]);
    await twice(async () => {
      expect(await token.encrypt(mechanism, key, text)).toEqual(expected);
      expect(await token.decrypt(mechanism, key, expected)).toEqual(text);
    });
  });

  test.each([
    ['by name', { name: 'AES_GCM', params: { iv: nonce, aad, tagBits: 128 } }],
    ['as pkcs11js takes it', { mechanism: 0x1087, parameter: { type: 7, iv: nonce, aad, ivBits: 96, tagBits: 128 } }],
    [
      'as graphene makes it',
      { name: 'AES_GCM', params: { toCKI: () => ({ type: 7, iv: nonce, aad, ivBits: 96, tagBits: 128 }) } },
    ],
  ])('AES-GCM %s agrees with node:crypto', async (_name, mechanism) => {
    const key = await token.get({ label: 'aes' });
    await twice(async () => {
      const sealed = await token.encrypt(mechanism, key, data);
      const decipher = createDecipheriv('aes-256-gcm', keys.aes.value, nonce)
        .setAAD(aad)
        .setAuthTag(sealed.subarray(-16));
      expect(Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()])).toEqual(data);
      expect(await token.decrypt(mechanism, key, sealed)).toEqual(data);
    });
  });

  test('RSA-OAEP agrees with node:crypto', async () => {
    const mechanism = { name: 'RSA_PKCS_OAEP', params: { hash: 'SHA_1' } };
    const text = data.subarray(0, 32);
    const padding = { padding: constants.RSA_PKCS1_OAEP_PADDING };
    await twice(async () => {
      const sealed = await token.encrypt(mechanism, await open('rsa'), text);
      expect(privateDecrypt({ key: privateOf(keys.rsa.privateKey), ...padding }, sealed)).toEqual(text);
      const theirs = publicEncrypt({ key: publicOf(keys.rsa.publicKey), ...padding }, text);
      expect(await token.decrypt(mechanism, await own('rsa'), theirs)).toEqual(text);
    });
  });

  test('payloads far larger than a message are processed', async () => {
    const key = await token.get({ label: 'aes' });
    const large = randomBytes(3 * 1024 * 1024);
    const sealed = await token.encrypt({ name: 'AES_CBC_PAD', params: iv }, key, large);
    expect((await token.decrypt({ name: 'AES_CBC_PAD', params: iv }, key, sealed)).equals(large)).toBe(true);
    expect(await token.digest('SHA512', large)).toEqual(createHash('sha512').update(large).digest());
  });

  test('an empty input is processed', async () => {
    const key = await token.get({ label: 'aes' });
    expect(await token.encrypt({ name: 'AES_CBC_PAD', params: iv }, key, '')).toHaveLength(16);
    expect(await token.digest('SHA256', '')).toEqual(createHash('sha256').digest());
  });
});

describe('other calls', () => {
  test('random numbers of any size', async () => {
    expect(await token.random(1)).toHaveLength(1);
    expect(await token.random(100_000)).toHaveLength(100_000);
    expect(await token.random(32)).not.toEqual(await token.random(32));
  });

  test('attributes by name and by number', async () => {
    const key = await own('rsa');
    const [labelType] = [3];
    const read = await token.getAttributes(key, ['label', 'class', 'sensitive', 'id', 'modulus', labelType]);
    expect(read).toMatchObject({ label: 'rsa', class: 3, sensitive: true, 3: 'rsa' });
    expect(read.id).toEqual(keys.rsa.id);
    expect(read.modulus).toHaveLength(256);
  });

  test('a sensitive attribute is refused by name', async () => {
    await expect(token.getAttributes(await token.get({ label: 'aes' }), ['value'])).rejects.toMatchObject({
      code: 0x11,
      message: expect.stringContaining('attribute value'),
    });
  });

  test('find and get', async () => {
    expect(await token.find()).toHaveLength(10);
    expect((await token.find({ keyType: 'AES' })).map(({ label }) => label)).toEqual(['aes']);
    expect((await token.find([{ type: 3, value: 'mac' }])).map(({ type }) => type)).toEqual(['GENERIC_SECRET']);
    expect(await token.find({ label: 'nothing' })).toEqual([]);
    await expect(token.get({ label: 'nothing' })).rejects.toMatchObject({ code: 0x82 });
    await expect(token.get({ label: 'rsa' })).rejects.toThrow(/2 objects match the template \(P.* RSA, P.* RSA\)/u);
  });

  test('a refusal of the token is thrown with its code', async () => {
    const key = await token.get({ label: 'mac' });
    await expect(token.encrypt('AES_ECB', key, randomBytes(16))).rejects.toMatchObject({ name: 'TokenError' });
    await expect(token.sign('SHA256_RSA_PKCS', key, data)).rejects.toMatchObject({
      name: 'TokenError',
    });
    await expect(
      token.decrypt(
        { name: 'AES_CBC_PAD', params: Buffer.alloc(16) },
        await token.get({ label: 'aes' }),
        randomBytes(15),
      ),
    ).rejects.toMatchObject({
      name: 'TokenError',
      method: 'C_Decrypt',
    });
    expect(token.status().members.map(({ state }) => state)).toEqual(['active', 'active']);
  });
});

describe('bad input is refused before any member is touched', () => {
  const bad: readonly (readonly [string, () => Promise<unknown>, RegExp])[] = [
    ['an unknown mechanism', () => token.sign('SHA257_RSA', 1, data), /^mechanism: expected the name of a mechanism/u],
    [
      'no mechanism',
      () => token.sign(undefined as never, 1, data),
      /^mechanism: expected the name of a mechanism or an object, got undefined/u,
    ],
    [
      'a raw parameter with pointers',
      () => token.encrypt({ name: 'AES_GCM', params: Buffer.alloc(48) }, 1, data),
      /^mechanism.params: expected the parameter of CKM_AES_GCM as an object, got a Buffer of 48 bytes/u,
    ],
    [
      'bytes in the place of pointers',
      () => token.encrypt({ mechanism: 0x1087, parameter: { type: 1, iv: Buffer.alloc(48) } }, 1, data),
      /^mechanism.parameter: expected a Buffer, or a kind of parameter that CKM_AES_GCM takes/u,
    ],
    [
      'a counter of the wrong size',
      () => token.encrypt({ name: 'AES_CTR', params: { counter: Buffer.alloc(8) } }, 1, data),
      /^mechanism.params.counter: expected a Buffer of 16 bytes, got a Buffer of 8 bytes/u,
    ],
    [
      'an unknown hash',
      () => token.sign({ name: 'RSA_PKCS_PSS', params: { hash: 'SHA257' } }, 1, data),
      /^mechanism.params.hash/u,
    ],
    [
      'an impossible handle',
      () => token.sign('ECDSA', -1, data),
      /^key: expected an object of this token or its handle, got a number/u,
    ],
    [
      'data of a wrong type',
      () => token.sign('ECDSA', 1, 5 as never),
      /^data: expected a Buffer, a typed array or a string, got a number/u,
    ],
    [
      'an unknown attribute',
      () => token.find({ lable: 'x' }),
      /^template.lable: expected the name of an attribute \(not 'lable'; did you mean 'label'\?\), got a string$/u,
    ],
    [
      'a value of a wrong type',
      () => token.find({ token: 'yes' }),
      /^template.token: expected true or false, got a string/u,
    ],
    [
      'an unknown class',
      () => token.find({ class: 'SECRET' }),
      /^template.class: expected a number or a name after CKO_, got a string/u,
    ],
    [
      'an attribute twice',
      () =>
        token.find([
          { type: 3, value: 'a' },
          { type: 3, value: 'b' },
        ]),
      /^template.label: expected the attribute only once/u,
    ],
    ['no random bytes', () => token.random(0), /^size: expected an integer from 1/u],
    ['an invalid deadline', () => token.random(1, { deadline: -1 }), /^options.deadline: expected an integer from 1/u],
    ['names that are no array', () => token.getAttributes(1, 'label' as never), /^names: expected an array/u],
  ];
  test.each(bad)('%s', async (_name, call, message) => {
    const { calls } = token.status().counters;
    const error = await call().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).toMatch(message);
    expect(token.status().counters.calls).toBe(calls);
  });
});
