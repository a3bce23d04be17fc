import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import pkcs11 from '../../../src/faces/pkcs11js/index.js';
import { Cluster } from '../../support/cluster.js';
import { rsaPair } from '../../support/keys.js';
import { LoadedGroup } from '../../support/library.js';
import { mac, macOf, objects, room, sign, text } from '../../support/loaded-keys.js';

let cluster: Cluster;
let group: LoadedGroup;
beforeAll(async () => {
  cluster = await Cluster.form('login', [objects, objects]);
});
afterEach(() => {
  cluster.heal();
  group.close();
});
afterAll(() => cluster.close());

describe('the PIN', () => {
  test('comes from the application if the configuration has none: a wrong PIN is tried once, then the right one works', async () => {
    const { pin: _pin, ...configuration } = cluster.configuration();
    group = new LoadedGroup(cluster, configuration);
    const { lib } = group;
    const session = group.session(false);
    expect(() => lib.C_Login(session, pkcs11.CKU_USER, 'wrong')).toThrow('CKR_PIN_INCORRECT');
    lib.C_Login(session, pkcs11.CKU_USER, group.pin);
    expect(sign(group, session, group.find(session, 'mac'))).toEqual(macOf(mac.value, text));
    lib.C_Logout(session);
    expect(() => lib.C_Login(session, pkcs11.CKU_USER, 'wrong')).toThrow('CKR_PIN_INCORRECT');
    lib.C_Login(session, pkcs11.CKU_USER, group.pin);
    await group.untilActive();
    group.kill('hsm1');
    for (let i = 0; i < 5; i += 1)
      expect(sign(group, session, group.find(session, 'mac'))).toEqual(macOf(mac.value, text));
    await group.untilActive();
  });

  test('[Rule 27] before the login handles are of this process only, and name the same objects afterwards', async () => {
    const own = await Cluster.form('before the login');
    const token = await own.open();
    const value = { class: 'DATA', token: true, private: false, label: 'first', value: Buffer.from('data') } as const;
    const made = await token.createObject(value);
    await token.setAttributes(made, { label: 'renamed' });
    await token.close();
    const { pin: _pin, ...configuration } = own.configuration();
    group = new LoadedGroup(own, configuration);
    try {
      const { lib } = group;
      const session = group.session(false);
      const handleOf = (): bigint => group.find(session, 'renamed').readBigUInt64LE();
      const labelOf = (handle: bigint): string => {
        const bytes = Buffer.alloc(8);
        bytes.writeBigUInt64LE(handle);
        return String(lib.C_GetAttributeValue(session, bytes, [{ type: pkcs11.CKA_LABEL }])[0]?.value);
      };
      const before = handleOf();
      expect([Number(before) === made.handle, labelOf(before)]).toEqual([false, 'renamed']);
      lib.C_Login(session, pkcs11.CKU_USER, group.pin);
      expect(Number(handleOf())).toBe(made.handle);
      expect([labelOf(before), labelOf(handleOf())]).toEqual(['renamed', 'renamed']);
    } finally {
      group.close();
      await own.close();
    }
  });

  test('[Rule 6] a wrong PIN never reaches a member whose PIN is known', () => {
    group = new LoadedGroup(cluster);
    for (const { name } of cluster.members) cluster.fault(name, 'C_Login trace');
    const session = group.session(false);
    const before = cluster.members.map(({ name }) => cluster.met(name).length);
    for (let i = 0; i < 20; i += 1)
      expect(() => group.lib.C_Login(session, pkcs11.CKU_USER, `wrong ${i}`)).toThrow('CKR_PIN_INCORRECT');
    expect(cluster.members.map(({ name }) => cluster.met(name).length)).toEqual(before);
  });

  test('is changed on all members', () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    lib.C_SetPIN(session, group.pin, 'another 123');
    lib.C_Logout(session);
    expect(() => lib.C_Login(session, pkcs11.CKU_USER, group.pin)).toThrow('CKR_PIN_INCORRECT');
    lib.C_Login(session, pkcs11.CKU_USER, 'another 123');
    expect(sign(group, session, group.find(session, 'mac'))).toEqual(macOf(mac.value, text));
    lib.C_SetPIN(session, 'another 123', group.pin);
  });
});

test('[Rule 6] a PIN that a token refuses for one operation is tried once on one member', async () => {
  const [asking] = rsaPair('asking', Buffer.from([9])).objects;
  const own = await Cluster.make(
    'asking',
    [1, 2].map(() => [{ ...(asking as object), ALWAYS_AUTHENTICATE: true } as never]),
  );
  group = new LoadedGroup(own);
  try {
    const { lib } = group;
    const session = group.session();
    const key = group.find(session, 'asking');
    await group.untilActive();
    const begin = (): void => {
      lib.C_SignInit(session, { mechanism: pkcs11.CKM_SHA256_RSA_PKCS }, key);
      lib.C_Login(session, pkcs11.CKU_CONTEXT_SPECIFIC, group.pin);
    };
    begin();
    expect(lib.C_Sign(session, text, room())).toHaveLength(256);
    // Acts as if another program had changed the PIN.
    for (const { name } of own.members) own.fault(name, 'C_Login return=0xa0');
    const tries = (): number => own.members.flatMap(({ name }) => own.met(name)).length;
    for (let i = 0; i < 8; i += 1) {
      begin();
      expect(() => lib.C_Sign(session, text, room())).toThrow('CKR_PIN_INCORRECT');
      expect(tries()).toBeLessThanOrEqual(2);
    }
  } finally {
    group.close();
    await own.close();
    group = new LoadedGroup(cluster);
  }
});
