import {
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  generateKeyPairSync,
  getDiffieHellman,
  randomBytes,
  verify,
} from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { TokenObject, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';
import type { ReadObject } from '../../support/softhsm.js';

const curves = {
  'P-256': Buffer.from('06082a8648ce3d030107', 'hex'),
  'P-384': Buffer.from('06052b81040022', 'hex'),
  'P-521': Buffer.from('06052b81040023', 'hex'),
};
const ed25519 = Buffer.from('130c656477617264733235353139', 'hex');
const dsa = dsaParameters();
const modp14 = getDiffieHellman('modp14').getPrime();

let cluster: Cluster;
let token: VirtualToken;
/** Virtual tokens of the group with one member each. */
const alone: Record<string, VirtualToken> = {};
beforeAll(async () => {
  cluster = await Cluster.form('keys');
  token = await cluster.open(cluster.configuration({ ...cluster.configuration().policy, clearCopy: 'allow' }));
  const configuration = cluster.configuration();
  for (const name of ['hsm1', 'hsm2']) {
    const members = configuration.members.filter((member) => member.name === name);
    alone[name] = await cluster.open({ ...configuration, members });
  }
});
afterAll(() => cluster.close());

/** Reads prime, subprime and base from the DER of a key that node:crypto made. */
function dsaParameters(): { prime: Buffer; subprime: Buffer; base: Buffer } {
  const { publicKey } = generateKeyPairSync('dsa', { modulusLength: 2048, divisorLength: 256 });
  const integers: Buffer[] = [];
  const walk = (der: Buffer): void => {
    for (let at = 0; at < der.length; ) {
      const tag = der[at] ?? 0;
      let length = der[at + 1] ?? 0;
      let start = at + 2;
      if (length >= 0x80) {
        const size = length & 0x7f;
        length = der.readUIntBE(start, size);
        start += size;
      }
      const content = der.subarray(start, start + length);
      if (tag === 0x30) walk(content);
      if (tag === 0x02) integers.push(content[0] === 0 ? content.subarray(1) : content);
      at = start + length;
    }
  };
  walk(publicKey.export({ format: 'der', type: 'spki' }));
  const [prime, subprime, base] = integers as [Buffer, Buffer, Buffer];
  return { prime, subprime, base };
}

/** Runs a check on each member alone, by virtual tokens without other members, which find all objects too. */
async function onEachAlone(run: (token: VirtualToken, name: string) => Promise<void>): Promise<void> {
  const handlesOf = async (each: VirtualToken): Promise<readonly number[]> =>
    (await each.find({ token: true })).map(({ handle }) => handle).sort();
  const all = await handlesOf(token);
  for (const name of ['hsm1', 'hsm2']) {
    const own = alone[name] as VirtualToken;
    expect(await handlesOf(own)).toEqual(all);
    await run(own, name);
  }
}

/** Reads the objects of a label from each token. */
async function read(label: string): Promise<readonly (readonly ReadObject[])[]> {
  const tokens = await Promise.all(['hsm1', 'hsm2'].map((name) => cluster.read(name)));
  return tokens.map((objects) => objects.filter((object) => object.label === label).sort((a, b) => a.class - b.class));
}

async function expectEqualOnTokens(label: string, count: number): Promise<readonly ReadObject[]> {
  const [first = [], second = []] = await read(label);
  expect(first).toHaveLength(count);
  expect(second).toEqual(first);
  return first;
}

const secret = (label: string, extractable: boolean, more: object) => ({
  token: true,
  label,
  id: randomBytes(4),
  sensitive: true,
  extractable,
  ...more,
});

describe.each([true, false])('keys made on the virtual token, extractable: %s', (extractable) => {
  const named = (kind: string): string => `${kind} ${extractable}`;

  /** Expects that the token refuses to give the key's value. */
  function expectGuarded(object: ReadObject | undefined): void {
    expect(object?.value).toBe(
      object?.class === 3 && object.type === 0 ? 'CKR_ATTRIBUTE_TYPE_INVALID' : 'CKR_ATTRIBUTE_SENSITIVE',
    );
    expect(object?.wrapped).toBe(extractable ? 'CKR_OK' : 'CKR_KEY_UNEXTRACTABLE');
    expect(object?.flags.includes('EXTRACTABLE')).toBe(extractable);
  }

  test.each([
    ['AES', 'AES_KEY_GEN', { valueLen: 32 }, 'AES_CBC_PAD', 16],
    ['AES of 16 bytes', 'AES_KEY_GEN', { valueLen: 16 }, 'AES_CBC_PAD', 16],
    ['DES3', 'DES3_KEY_GEN', {}, 'DES3_CBC_PAD', 8],
  ] as const)('%s: each member alone decrypts what the others encrypt', async (kind, mechanism, more, cipher, size) => {
    const label = named(kind);
    const key = await token.generateKey(
      mechanism,
      secret(label, extractable, { ...more, encrypt: true, decrypt: true }),
    );
    const iv = randomBytes(size);
    const texts: Buffer[] = [];
    await onEachAlone(async (token) => {
      texts.push(await token.encrypt({ name: cipher, params: iv }, key, 'a secret'));
      for (const text of texts)
        expect((await token.decrypt({ name: cipher, params: iv }, key, text)).toString()).toBe('a secret');
    });
    expect(texts[1]).toEqual(texts[0]);
    const [object] = await expectEqualOnTokens(label, 1);
    expectGuarded(object);
  });

  test.each([32, 33, 64, 101, 333])(
    'a generic secret of %i bytes: each member alone makes the same MAC',
    async (valueLen) => {
      const label = named(`secret ${valueLen}`);
      const key = await token.generateKey(
        'GENERIC_SECRET_KEY_GEN',
        secret(label, extractable, { valueLen, sign: true, verify: true }),
      );
      const macs = new Set<string>();
      await onEachAlone(async (token) => {
        macs.add((await token.sign('SHA256_HMAC', key, 'data')).toString('hex'));
      });
      expect(macs.size).toBe(1);
      expect(await token.getAttributes(key, ['valueLen', 'extractable', 'sensitive'])).toEqual({
        valueLen,
        extractable,
        sensitive: true,
      });
      const [object] = await expectEqualOnTokens(label, 1);
      expectGuarded(object);
    },
  );

  test('RSA: each member alone signs, and node:crypto verifies', async () => {
    const label = named('RSA');
    const { publicKey, privateKey } = await token.generateKeyPair(
      'RSA_PKCS_KEY_PAIR_GEN',
      { token: true, label, modulusBits: 2048, publicExponent: Buffer.from([1, 0, 1]), verify: true },
      secret(label, extractable, { sign: true, id: Buffer.from(label) }),
    );
    const { modulus, publicExponent } = await token.getAttributes(publicKey, ['modulus', 'publicExponent']);
    const theirs = createPublicKey({
      key: { kty: 'RSA', n: b64(modulus), e: b64(publicExponent) },
      format: 'jwk',
    });
    await onEachAlone(async (token) => {
      const signature = await token.sign('SHA256_RSA_PKCS', privateKey, 'data');
      expect(verify('sha256', Buffer.from('data'), theirs, signature)).toBe(true);
      expect(await token.verify('SHA256_RSA_PKCS', publicKey, 'data', signature)).toBe(true);
    });
    const [, object] = await expectEqualOnTokens(label, 2);
    expectGuarded(object);
  });

  test.each(['P-256', 'P-384', 'P-521'] as const)(
    'EC %s: each member alone signs, and node:crypto verifies',
    async (crv) => {
      const label = named(crv);
      const { publicKey, privateKey } = await token.generateKeyPair(
        'EC_KEY_PAIR_GEN',
        { token: true, label, paramsEC: curves[crv], verify: true },
        secret(label, extractable, { sign: true, derive: true }),
      );
      const { pointEC } = await token.getAttributes(publicKey, ['pointEC']);
      const point = (pointEC as Buffer).subarray((pointEC as Buffer)[1] === 0x81 ? 4 : 3);
      const half = point.length / 2;
      const jwk = { kty: 'EC', crv, x: b64(point.subarray(0, half)), y: b64(point.subarray(half)) };
      const theirs = createPublicKey({ key: jwk, format: 'jwk' });
      const hashed = createHash('sha256').update('data').digest();
      await onEachAlone(async (token) => {
        const signature = await token.sign('ECDSA', privateKey, hashed);
        expect(verify('sha256', Buffer.from('data'), { key: theirs, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
      });
      const [, object] = await expectEqualOnTokens(label, 2);
      expectGuarded(object);
    },
  );

  test('DSA: each member alone signs, and the others verify', async () => {
    const label = named('DSA');
    const { publicKey, privateKey } = await token.generateKeyPair(
      'DSA_KEY_PAIR_GEN',
      { token: true, label, ...dsa, verify: true },
      secret(label, extractable, { sign: true }),
    );
    const hashed = createHash('sha256').update('data').digest();
    const signatures: Buffer[] = [];
    await onEachAlone(async (token) => {
      signatures.push(await token.sign('DSA', privateKey, hashed));
      for (const signature of signatures) expect(await token.verify('DSA', publicKey, hashed, signature)).toBe(true);
    });
    expect(token.status().unproven.filter((object) => object.label === label)).toEqual([]);
    const [, object] = await expectEqualOnTokens(label, 2);
    expectGuarded(object);
  });

  test('DH: each member alone derives the same secret', async () => {
    const label = named('DH');
    const { privateKey } = await token.generateKeyPair(
      'DH_PKCS_KEY_PAIR_GEN',
      { token: true, label, prime: modp14, base: Buffer.from([2]) },
      secret(label, extractable, { derive: true }),
    );
    const peer = getDiffieHellman('modp14').generateKeys();
    const derived = new Set<string>();
    await onEachAlone(async (token) => {
      const shared = await token.deriveKey({ name: 'DH_PKCS_DERIVE', params: peer }, privateKey, {
        class: 'SECRET_KEY',
        keyType: 'GENERIC_SECRET',
        valueLen: 32,
        extractable: true,
        sensitive: false,
      });
      derived.add(((await token.getAttributes(shared, ['value'])).value as Buffer).toString('hex'));
    });
    expect(derived.size).toBe(1);
    const [, object] = await expectEqualOnTokens(label, 2);
    expectGuarded(object);
  });
});

const b64 = (value: unknown): string => (value as Buffer).toString('base64url');

describe('Ed25519, which SoftHSM cannot wrap', () => {
  test('is refused before any member has it', async () => {
    const cannot = token.generateKeyPair(
      'EC_EDWARDS_KEY_PAIR_GEN',
      { token: true, label: 'ed', paramsEC: ed25519 },
      { token: true, label: 'ed', sign: true, extractable: false },
    );
    await expect(cannot).rejects.toMatchObject({ code: 0x69, message: expect.stringContaining('clearCopy') });
    await expectEqualOnTokens('ed', 0);
  });

  test('is copied by value if it can be read and the policy allows it', async () => {
    const { publicKey, privateKey } = await token.generateKeyPair(
      'EC_EDWARDS_KEY_PAIR_GEN',
      { token: true, label: 'ed', id: Buffer.from([1]), paramsEC: ed25519, verify: true },
      { token: true, label: 'ed', id: Buffer.from([1]), sign: true, extractable: true, sensitive: false },
    );
    const { pointEC } = await token.getAttributes(publicKey, ['pointEC']);
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: b64((pointEC as Buffer).subarray(2)) };
    const theirs = createPublicKey({ key: jwk, format: 'jwk' });
    await onEachAlone(async (token) => {
      const signature = await token.sign('EDDSA', privateKey, 'data');
      expect(verify(null, Buffer.from('data'), theirs, signature)).toBe(true);
    });
    await expectEqualOnTokens('ed', 2);
  });
});

describe('keys by other calls', () => {
  const wrapping = async (): Promise<TokenObject> =>
    (await token.find({ label: 'wrapping' }))[0] ??
    (await token.generateKey('AES_KEY_GEN', {
      token: true,
      label: 'wrapping',
      valueLen: 32,
      wrap: true,
      unwrap: true,
      extractable: false,
    }));

  test.each([true, false])('are created from a value, extractable: %s', async (extractable) => {
    const value = randomBytes(32);
    const label = `created ${extractable}`;
    const key = await token.createObject(
      secret(label, extractable, { class: 'SECRET_KEY', keyType: 'AES', value, encrypt: true }),
    );
    const iv = randomBytes(16);
    await onEachAlone(async (token) => {
      const text = await token.encrypt({ name: 'AES_CBC_PAD', params: iv }, key, 'text');
      const decipher = createDecipheriv('aes-256-cbc', value, iv);
      expect(Buffer.concat([decipher.update(text), decipher.final()]).toString()).toBe('text');
    });
    await expectEqualOnTokens(label, 1);
  });

  test('are unwrapped on all members', async () => {
    const value = randomBytes(40);
    const by = await wrapping();
    const hmac = { class: 'SECRET_KEY', keyType: 'GENERIC_SECRET', sign: true };
    const original = await token.createObject({ ...hmac, value, extractable: true });
    const wrapped = await token.wrapKey('AES_KEY_WRAP_PAD', by, original);
    const key = await token.unwrapKey('AES_KEY_WRAP_PAD', by, wrapped, {
      ...hmac,
      ...secret('unwrapped', false, {}),
    });
    const expected = createHmac('sha256', value).update('data').digest();
    await onEachAlone(async (token) => expect(await token.sign('SHA256_HMAC', key, 'data')).toEqual(expected));
    const [object] = await expectEqualOnTokens('unwrapped', 1);
    expect(object?.wrapped).toBe('CKR_KEY_UNEXTRACTABLE');
  });

  test('are copied, with another label', async () => {
    const source = await token.generateKey('AES_KEY_GEN', secret('source', false, { valueLen: 32, encrypt: true }));
    const copy = await token.copyObject(source, { label: 'copy' });
    expect(copy.handle).not.toBe(source.handle);
    const block = randomBytes(16);
    await onEachAlone(async (token) => {
      expect(await token.encrypt('AES_ECB', copy, block)).toEqual(await token.encrypt('AES_ECB', source, block));
    });
    const [object] = await expectEqualOnTokens('copy', 1);
    expect(object?.wrapped).toBe('CKR_KEY_UNEXTRACTABLE');
  });

  test('are derived by ECDH as token objects', async () => {
    const { privateKey } = await token.generateKeyPair(
      'EC_KEY_PAIR_GEN',
      { paramsEC: curves['P-256'] },
      { derive: true, extractable: true },
    );
    const peer = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const jwk = peer.publicKey.export({ format: 'jwk' });
    const publicData = Buffer.concat([Buffer.from([4]), from64(jwk.x), from64(jwk.y)]);
    await token.deriveKey(
      { name: 'ECDH1_DERIVE', params: { kdf: 'NULL', publicData } },
      privateKey,
      secret('derived', false, { class: 'SECRET_KEY', keyType: 'AES', valueLen: 32, encrypt: true }),
    );
    await expectEqualOnTokens('derived', 1);
  });

  test('are like certificates and data objects: created on all members', async () => {
    const value = randomBytes(900);
    await token.createObject({
      class: 'CERTIFICATE',
      certType: 'X_509',
      token: true,
      label: 'certificate',
      subject: Buffer.from('3000', 'hex'),
      value,
    });
    const data = await token.createObject({ class: 'DATA', token: true, private: true, label: 'data', value });
    await onEachAlone(async (token) => {
      expect((await token.getAttributes(data, ['value', 'private'])).value).toEqual(value);
    });
    await expectEqualOnTokens('certificate', 1);
    await expectEqualOnTokens('data', 1);
  });
});

const from64 = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');

test('with a member stopped, keys work, and new keys are made on the other member', async () => {
  const before = await token.generateKey('AES_KEY_GEN', secret('before', false, { valueLen: 32, encrypt: true }));
  cluster.fault('hsm1', 'C_Initialize return=0x30');
  process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
  await untilState(token, 'hsm1', 'down');
  const block = randomBytes(16);
  const text = await token.encrypt('AES_ECB', before, block);
  const meanwhile = await token.generateKey('AES_KEY_GEN', secret('meanwhile', false, { valueLen: 32, encrypt: true }));
  const other = await token.encrypt('AES_ECB', meanwhile, block);
  cluster.heal();
  await untilState(token, 'hsm1', 'active');
  await expectEqualOnTokens('meanwhile', 1);
  await onEachAlone(async (token) => {
    expect(await token.encrypt('AES_ECB', before.handle, block)).toEqual(text);
    expect(await token.encrypt('AES_ECB', meanwhile.handle, block)).toEqual(other);
  });
});
