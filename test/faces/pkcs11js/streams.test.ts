import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import pkcs11 from '../../../src/faces/pkcs11js/index.js';
import { Cluster, quickPolicy } from '../../support/cluster.js';
import { LoadedGroup } from '../../support/library.js';
import { aes, HMAC, mac, macOf, objects, room, SHA256, sign, text } from '../../support/loaded-keys.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
let group: LoadedGroup;
beforeAll(async () => {
  cluster = await Cluster.form('streams', [objects, objects]);
});
afterEach(() => {
  cluster.heal();
  group.close();
});
afterAll(() => cluster.close());

describe('operations part by part', () => {
  const iv = Buffer.alloc(16, 9);
  const mechanism = { mechanism: pkcs11.CKM_AES_CBC_PAD, parameter: iv };
  const encrypted = (data: Buffer): Buffer => {
    const cipher = createCipheriv('aes-256-cbc', aes.value, iv);
    return Buffer.concat([cipher.update(data), cipher.final()]);
  };

  test.each(['hsm1', 'hsm2'])('survive the loss of %s at each step', async (name) => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    const [key, cipherKey] = [group.find(session, 'mac'), group.find(session, 'aes')];
    const data = randomBytes(5000);
    for (let at = 0; at < 6; at += 1) {
      await group.untilActive();
      const pieces: Buffer[] = [];
      lib.C_EncryptInit(session, mechanism, cipherKey);
      const signing = group.session();
      lib.C_SignInit(signing, HMAC, key);
      for (let part = 0; part < 5; part += 1) {
        if (part === at) group.kill(name);
        const piece = data.subarray(part * 1000, part * 1000 + 1000);
        pieces.push(Buffer.from(lib.C_EncryptUpdate(session, piece, Buffer.alloc(2000))));
        lib.C_SignUpdate(signing, piece);
      }
      if (at === 5) group.kill(name);
      pieces.push(Buffer.from(lib.C_EncryptFinal(session, Buffer.alloc(2000))));
      expect(Buffer.concat(pieces)).toEqual(encrypted(data));
      expect(lib.C_SignFinal(signing, room())).toEqual(macOf(mac.value, data));
    }
  });

  test('a stream goes on at another member if its member hangs', async () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    const key = group.find(session, 'aes');
    await group.untilActive();
    const pieces: Buffer[] = [];
    const data = randomBytes(4000);
    lib.C_EncryptInit(session, mechanism, key);
    pieces.push(Buffer.from(lib.C_EncryptUpdate(session, data.subarray(0, 1000), Buffer.alloc(2000))));
    const holder = cluster.members.find(({ name }) => (group.member(name).connection?.streams.size ?? 0) > 0);
    group.kill(holder?.name ?? '', 'SIGSTOP');
    for (let part = 1; part < 4; part += 1) {
      const piece = data.subarray(part * 1000, part * 1000 + 1000);
      pieces.push(Buffer.from(lib.C_EncryptUpdate(session, piece, Buffer.alloc(2000))));
    }
    pieces.push(Buffer.from(lib.C_EncryptFinal(session, Buffer.alloc(2000))));
    expect(Buffer.concat(pieces)).toEqual(encrypted(data));
  });

  test('over policy.replayLimit they stay on their member, and end with it', async () => {
    group = new LoadedGroup(cluster, cluster.configuration({ ...quickPolicy, replayLimit: '4KiB' }));
    const { lib } = group;
    const session = group.session();
    const signing = group.session();
    const data = randomBytes(10_000);
    const [key, cipherKey] = [group.find(session, 'mac'), group.find(session, 'aes')];
    const both = (): void => {
      lib.C_EncryptInit(session, mechanism, cipherKey);
      lib.C_SignInit(signing, HMAC, key);
    };
    await group.untilActive();
    both();
    const pieces: Buffer[] = [];
    for (let at = 0; at < data.length; at += 1000) {
      pieces.push(Buffer.from(lib.C_EncryptUpdate(session, data.subarray(at, at + 1000), Buffer.alloc(2000))));
      lib.C_SignUpdate(signing, data.subarray(at, at + 1000));
    }
    pieces.push(Buffer.from(lib.C_EncryptFinal(session, Buffer.alloc(2000))));
    expect(Buffer.concat(pieces)).toEqual(encrypted(data));
    expect(lib.C_SignFinal(signing, room())).toEqual(macOf(mac.value, data));
    both();
    for (let at = 0; at < 6000; at += 1000) {
      lib.C_EncryptUpdate(session, data.subarray(at, at + 1000), Buffer.alloc(2000));
      lib.C_SignUpdate(signing, data.subarray(at, at + 1000));
    }
    for (const { name } of cluster.members) group.kill(name);
    const removed = expect.objectContaining({ code: pkcs11.CKR_DEVICE_REMOVED });
    const codeOf = (call: () => unknown): unknown => {
      try {
        return call();
      } catch (error) {
        expect((error as Error & { cause: Error }).cause.message).toContain('policy.replayLimit');
        return error;
      }
    };
    expect(codeOf(() => lib.C_EncryptUpdate(session, text, Buffer.alloc(2000)))).toEqual(removed);
    expect(codeOf(() => lib.C_SignFinal(signing, room()))).toEqual(removed);
    // Uses the session again for the next operation.
    expect(sign(group, signing, key)).toEqual(macOf(mac.value, text));
  });

  test('more streams than lanes take turns at the held sessions', () => {
    const configuration = cluster.configuration();
    for (const member of configuration.members) Object.assign(member, { lanes: 2 });
    group = new LoadedGroup(cluster, configuration);
    const { lib } = group;
    const key = group.find(group.session(), 'aes');
    const streams = Array.from({ length: 20 }, (_, at) => ({
      session: group.session(),
      data: Buffer.alloc(300, at),
      pieces: [] as Buffer[],
    }));
    for (const { session } of streams) lib.C_EncryptInit(session, mechanism, key);
    for (let at = 0; at < 300; at += 50) {
      for (const { session, data, pieces } of streams)
        pieces.push(Buffer.from(lib.C_EncryptUpdate(session, data.subarray(at, at + 50), Buffer.alloc(200))));
    }
    for (const { session, data, pieces } of streams) {
      pieces.push(Buffer.from(lib.C_EncryptFinal(session, Buffer.alloc(200))));
      expect(Buffer.concat(pieces)).toEqual(encrypted(data));
    }
    for (const { name } of cluster.members) expect(group.member(name).connection?.streams.size).toBeLessThanOrEqual(2);
  });

  test('an Update whose buffer was too small can be repeated, also with other data', () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    lib.C_EncryptInit(session, mechanism, group.find(session, 'aes'));
    const [one, two] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
    const pieces = [Buffer.from(lib.C_EncryptUpdate(session, one, Buffer.alloc(100)))];
    expect(() => lib.C_EncryptUpdate(session, two, Buffer.alloc(4))).toThrow('CKR_BUFFER_TOO_SMALL');
    pieces.push(Buffer.from(lib.C_EncryptUpdate(session, two, Buffer.alloc(100))));
    expect(() => lib.C_EncryptUpdate(session, two, Buffer.alloc(4))).toThrow('CKR_BUFFER_TOO_SMALL');
    pieces.push(Buffer.from(lib.C_EncryptUpdate(session, one, Buffer.alloc(100))));
    pieces.push(Buffer.from(lib.C_EncryptFinal(session, Buffer.alloc(100))));
    expect(Buffer.concat(pieces)).toEqual(encrypted(Buffer.concat([one, two, one])));
  });

  test('dual-function calls perform both functions', () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    const key = group.find(session, 'aes');
    lib.C_DigestInit(session, SHA256);
    lib.C_EncryptInit(session, mechanism, key);
    const pieces = [one, two].map((part) => Buffer.from(lib.C_DigestEncryptUpdate(session, part, Buffer.alloc(200))));
    pieces.push(Buffer.from(lib.C_EncryptFinal(session, Buffer.alloc(200))));
    const digest = createHash('sha256').update(one).update(two).digest();
    expect(lib.C_DigestFinal(session, room())).toEqual(digest);
    const whole = Buffer.concat(pieces);
    expect(whole).toEqual(encrypted(Buffer.concat([one, two])));
    lib.C_DecryptInit(session, mechanism, key);
    lib.C_DigestInit(session, SHA256);
    const back = Buffer.from(lib.C_DecryptDigestUpdate(session, whole, Buffer.alloc(200)));
    const rest = Buffer.from(lib.C_DecryptFinal(session, Buffer.alloc(200)));
    expect(Buffer.concat([back, rest])).toEqual(Buffer.concat([one, two]));
    expect(() => lib.C_SignInit(session, HMAC, group.find(session, 'mac'))).toThrow('CKR_OPERATION_ACTIVE');
  });
  const [one, two] = [Buffer.alloc(40, 1), Buffer.alloc(50, 2)];
});

describe('after a failed or finished call', () => {
  const iv = Buffer.alloc(16, 9);

  test('a Final after an Update whose buffer was too small ignores that Update', () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    lib.C_EncryptInit(session, { mechanism: pkcs11.CKM_AES_CBC_PAD, parameter: iv }, group.find(session, 'aes'));
    const one = Buffer.alloc(32, 1);
    const pieces = [Buffer.from(lib.C_EncryptUpdate(session, one, Buffer.alloc(100)))];
    expect(() => lib.C_EncryptUpdate(session, one, Buffer.alloc(4))).toThrow('CKR_BUFFER_TOO_SMALL');
    pieces.push(Buffer.from(lib.C_EncryptFinal(session, Buffer.alloc(100))));
    const cipher = createCipheriv('aes-256-cbc', aes.value, iv);
    expect(Buffer.concat(pieces)).toEqual(Buffer.concat([cipher.update(one), cipher.final()]));
  });

  test('the second of two calls at the same time on one operation is refused', async () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    const key = group.find(session, 'aes');
    lib.C_DigestInit(session, SHA256);
    lib.C_EncryptInit(session, { mechanism: pkcs11.CKM_AES_CBC_PAD, parameter: iv }, key);
    const calls = [1, 2].map((byte) =>
      lib.C_DigestEncryptUpdateAsync(session, Buffer.alloc(48, byte), Buffer.alloc(200)),
    );
    const [first, second] = await Promise.allSettled(calls);
    expect(first?.status).toBe('fulfilled');
    expect(second).toMatchObject({ status: 'rejected', reason: { code: pkcs11.CKR_OPERATION_ACTIVE } });
    expect(lib.C_DigestFinal(session, room())).toEqual(createHash('sha256').update(Buffer.alloc(48, 1)).digest());
  });

  test('held sessions are given back', async () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    const key = group.find(session, 'aes');
    const streams = Array.from({ length: 6 }, () => group.session());
    for (const each of streams) {
      lib.C_EncryptInit(each, { mechanism: pkcs11.CKM_AES_CBC_PAD, parameter: iv }, key);
      lib.C_EncryptUpdate(each, Buffer.alloc(100), Buffer.alloc(200));
    }
    for (const { name } of cluster.members) cluster.fault(name, 'C_CloseSession trace');
    for (const each of streams) lib.C_CloseSession(each);
    const closed = (): number =>
      cluster.members.flatMap(({ name }) => cluster.met(name)).filter((line) => line.includes('C_CloseSession')).length;
    await until(
      () => closed() >= 6,
      () => `6 sessions are closed, not ${closed()}`,
    );
    for (const { name } of cluster.members) expect(group.member(name).connection?.streams.size).toBe(0);
  });
});
