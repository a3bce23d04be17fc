import { createCipheriv, createHmac, createPublicKey, randomBytes, verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { MisalignedEvent, MissingEvent, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, quickPolicy, untilState } from '../../support/cluster.js';
import { ecPair, edPair, rsaPair, secretKey } from '../../support/keys.js';

const id = (byte: number): Buffer => Buffer.from([byte]);
const shared = {
  rsa: rsaPair('rsa', id(1)),
  ec: ecPair('ec', id(2)),
  ed: edPair('ed', id(3)),
  aes: secretKey('aes', id(4)),
};
// Keys with equal names on both members, and different values.
const first = {
  aes: secretKey('torn', id(5)),
  ec: ecPair('torn', id(6)),
  mac: secretKey('torn', id(7), { type: 'GENERIC_SECRET' }),
};
const second = {
  aes: secretKey('torn', id(5)),
  ec: ecPair('torn', id(6)),
  mac: secretKey('torn', id(7), { type: 'GENERIC_SECRET' }),
};
const onlyOnSecond = secretKey('lonely', id(8));
const twins = [secretKey('twin', id(9)), secretKey('twin', id(9))] as const;
const everywhere = Object.values(shared).flatMap(({ objects }) => objects);
const torn = (keys: typeof first) => Object.values(keys).flatMap(({ objects }) => objects);

let cluster: Cluster;
let token: VirtualToken;
const misaligned: MisalignedEvent[] = [];
const missing: MissingEvent[] = [];
beforeAll(async () => {
  cluster = await Cluster.make('alignment', [
    [...everywhere, ...torn(first), ...twins[0].objects, ...twins[1].objects],
    [...twins[1].objects, ...twins[0].objects, ...onlyOnSecond.objects, ...torn(second), ...everywhere],
  ]);
  // Balances in turn, since a slow member might otherwise not be asked at all.
  token = await cluster.open(cluster.configuration({ ...quickPolicy, balance: 'roundRobin' }));
  token.on('misaligned', (event) => misaligned.push(event));
  token.on('missing', (event) => missing.push(event));
});
afterAll(() => cluster.close());

const iv = Buffer.alloc(16, 7);
const cbc = { name: 'AES_CBC_PAD', params: iv };
const encrypted = (key: Buffer, text: string): Buffer => {
  const cipher = createCipheriv('aes-256-cbc', key, iv);
  return Buffer.concat([cipher.update(text), cipher.final()]);
};

describe('[Rule 12] another key of the same name on the second member', () => {
  test('is never used there: a secret key', async () => {
    const key = await token.get({ label: 'torn', keyType: 'AES' });
    for (let i = 0; i < 40; i += 1) {
      expect(await token.encrypt(cbc, key, `text ${i}`)).toEqual(encrypted(first.aes.value, `text ${i}`));
    }
  });

  test('is never used there: a MAC key', async () => {
    const key = await token.get({ label: 'torn', keyType: 'GENERIC_SECRET' });
    for (let i = 0; i < 40; i += 1) {
      const mac = createHmac('sha256', first.mac.value).update(`text ${i}`).digest();
      expect(await token.sign('SHA256_HMAC', key, `text ${i}`)).toEqual(mac);
    }
  });

  test('is never used there: an EC private key', async () => {
    const key = await token.get({ label: 'torn', keyType: 'EC', class: 'PRIVATE_KEY' });
    const publicKey = createPublicKey(first.ec.publicKey.export({ format: 'pem', type: 'spki' }));
    for (let i = 0; i < 40; i += 1) {
      const signature = await token.sign('ECDSA', key, await token.digest('SHA256', `text ${i}`));
      expect(verify('sha256', Buffer.from(`text ${i}`), { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)).toBe(
        true,
      );
    }
  });

  test('is reported once, and is in the status', () => {
    expect(misaligned.map(({ member, object }) => `${member} ${object.label} ${object.id}`).sort()).toEqual([
      'hsm2 torn 05',
      'hsm2 torn 06',
      'hsm2 torn 07',
    ]);
    const standings = token
      .status()
      .drift.filter(({ label, standings: { hsm2 } }) => label === 'torn' && hsm2 === 'misaligned');
    expect(standings).toHaveLength(3);
  });

  test('is not used there either when the first member is away', async () => {
    const key = await token.get({ label: 'torn', keyType: 'AES' });
    cluster.fault('hsm1', 'C_Initialize return=0x30');
    process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
    await expect(token.encrypt(cbc, key, 'text', { deadline: 400 })).rejects.toMatchObject({ name: 'TokenError' });
    cluster.heal();
    await untilState(token, 'hsm1', 'active');
    expect(await token.encrypt(cbc, key, 'text')).toEqual(encrypted(first.aes.value, 'text'));
  });
});

test('a key that only one member has is used there, and reported as missing', async () => {
  const key = await token.get({ label: 'lonely' });
  for (let i = 0; i < 20; i += 1)
    expect(await token.encrypt(cbc, key, 'text')).toEqual(encrypted(onlyOnSecond.value, 'text'));
  expect(missing.map(({ member, object }) => `${member} ${object.label}`)).toContain('hsm1 lonely');
  expect(token.status().drift.find(({ label }) => label === 'lonely')?.standings.hsm1).toBe('absent');
});

test('[Rule 12] twins are told apart on both members, in whatever order they were made', async () => {
  const found = await token.find({ label: 'twin' });
  expect(new Set(found.map(({ handle }) => handle)).size).toBe(2);
  const results = new Set<string>();
  for (const key of found) {
    const results40 = new Set<string>();
    for (let i = 0; i < 20; i += 1) results40.add((await token.encrypt(cbc, key, 'text')).toString('hex'));
    expect(results40.size).toBe(1);
    for (const result of results40) results.add(result);
  }
  expect(results).toEqual(new Set(twins.map(({ value }) => encrypted(value, 'text').toString('hex'))));
});

test('all kinds of keys are proven on both members', async () => {
  const keys = [
    await token.get({ label: 'rsa', class: 'PRIVATE_KEY' }),
    await token.get({ label: 'ec', class: 'PRIVATE_KEY' }),
    await token.get({ label: 'ed', class: 'PRIVATE_KEY' }),
  ];
  for (let i = 0; i < 20; i += 1)
    for (const key of keys)
      await token.sign(key.type === 'RSA' ? 'RSA_PKCS' : key.type === 'EC' ? 'ECDSA' : 'EDDSA', key, randomBytes(32));
  const aes = await token.get({ label: 'aes' });
  for (let i = 0; i < 20; i += 1) await token.encrypt(cbc, aes, 'text');
  expect(token.status().unproven).toEqual([]);
});

test('[Rule 13] after a reconnect with other real handles no key is mistaken', async () => {
  const shuffled = await cluster.open();
  for (const name of ['hsm1', 'hsm2']) cluster.fault(name, 'C_FindObjects shuffle');
  const [rsa, aes] = [await shuffled.get({ label: 'rsa', class: 'PRIVATE_KEY' }), await shuffled.get({ label: 'aes' })];
  const publicKey = createPublicKey(shared.rsa.publicKey.export({ format: 'pem', type: 'spki' }));
  const check = async (): Promise<void> => {
    for (let i = 0; i < 20; i += 1) {
      expect(verify('sha256', Buffer.from('x'), publicKey, await shuffled.sign('SHA256_RSA_PKCS', rsa, 'x'))).toBe(
        true,
      );
      expect(await shuffled.encrypt(cbc, aes, 'text')).toEqual(encrypted(shared.aes.value, 'text'));
    }
  };
  for (let round = 0; round < 3; round += 1) {
    await check();
    for (const name of ['hsm1', 'hsm2']) {
      process.kill(pidOf(shuffled, name), 'SIGKILL');
      await untilState(shuffled, name, 'down', 'joining');
      await untilState(shuffled, name, 'active');
    }
  }
  await check();
  await shuffled.close();
  cluster.heal();
});
