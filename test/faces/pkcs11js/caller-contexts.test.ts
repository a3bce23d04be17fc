import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Cluster } from '../../support/cluster.js';
import { type Handle, LoadedGroup } from '../../support/library.js';
import { HMAC, mac, macOf, objects, other, room, text } from '../../support/loaded-keys.js';

let cluster: Cluster;
let group: LoadedGroup;
beforeAll(async () => {
  cluster = await Cluster.form('flows', [objects, objects]);
});
afterEach(() => {
  cluster.heal();
  group.close();
});
afterAll(() => cluster.close());

describe('several caller contexts on one session', () => {
  test('have an operation each, and never use the operation of another', async () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    const keys = [
      { handle: group.find(session, 'mac'), value: mac.value },
      { handle: group.find(session, 'other'), value: other.value },
    ];
    const signLater = async (at: number): Promise<Buffer> => {
      const key = keys[at % 2] as (typeof keys)[number];
      const data = Buffer.from(`text ${at}`);
      lib.C_SignInit(session, HMAC, key.handle);
      // Lets the callers continue in another order.
      await new Promise((resolve) => setTimeout(resolve, (at * 7) % 5));
      if (at % 3 === 0) {
        lib.C_SignUpdate(session, data);
        await null;
        return Buffer.from(lib.C_SignFinal(session, room()));
      }
      return Buffer.from(await lib.C_SignAsync(session, data, room()));
    };
    const signatures = await Promise.all(Array.from({ length: 20 }, (_, at) => signLater(at)));
    for (const [at, signature] of signatures.entries())
      expect(signature).toEqual(macOf((keys[at % 2] as (typeof keys)[number]).value, Buffer.from(`text ${at}`)));
  });

  test('allow one operation at a time in one context, across awaits', async () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    const key = group.find(session, 'mac');
    lib.C_SignInit(session, HMAC, key);
    expect(() => lib.C_SignInit(session, HMAC, key)).toThrow('CKR_OPERATION_ACTIVE');
    await null;
    expect(() => lib.C_SignInit(session, HMAC, key)).toThrow('CKR_OPERATION_ACTIVE');
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect(() => lib.C_FindObjectsInit(session, [])).toThrow('CKR_OPERATION_ACTIVE');
    expect(lib.C_Sign(session, text, room())).toEqual(macOf(mac.value, text));
  });

  test('give no operation to a call without a context', async () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    const keys = [group.find(session, 'mac'), group.find(session, 'other')];
    const begin = async (key: Handle | undefined): Promise<void> => {
      await null;
      lib.C_SignInit(session, HMAC, key as Handle);
    };
    const begun = keys.map(begin);
    await Promise.all(begun);
    expect(() => lib.C_Sign(session, text, room())).toThrow('CKR_OPERATION_ACTIVE');
  });
});
