import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import pkcs11, { PKCS11 } from '../../../src/faces/pkcs11js/index.js';
import { Cluster, quickPolicy } from '../../support/cluster.js';
import { type Handle, LoadedGroup } from '../../support/library.js';
import { HMAC, mac, macOf, objects, room, sign, text } from '../../support/loaded-keys.js';

let cluster: Cluster;
let group: LoadedGroup;
beforeAll(async () => {
  cluster = await Cluster.form('slots', [objects, objects]);
});
afterEach(() => {
  cluster.heal();
  group.close();
});
afterAll(() => cluster.close());

describe('the library', () => {
  test("shows the members' own slots with slots: all, and calls on them go to that member", async () => {
    group = new LoadedGroup(cluster, { ...cluster.configuration(), slots: 'all' });
    const { lib } = group;
    const slots = lib.C_GetSlotList(true);
    const labels = slots.map((slot) => lib.C_GetTokenInfo(slot).label.trim());
    expect(labels).toEqual(['test group', 'hsm1', 'hsm2']);
    const serials = slots.slice(1).map((slot) => lib.C_GetTokenInfo(slot).serialNumber.trim());
    expect(serials).toEqual(cluster.members.map(({ hsm }) => hsm.serial));
    const session = group.session();
    const key = group.find(session, 'mac');
    await group.untilActive();
    // Signs often enough that both members have proven the key.
    for (let i = 0; i < 20; i += 1) sign(group, session, key);
    const own = lib.C_OpenSession(slots[2] as Handle, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
    cluster.fault('hsm1', 'C_SignInit trace');
    const before = cluster.met('hsm1').length;
    for (let i = 0; i < 10; i += 1) expect(sign(group, own, group.find(own, 'mac'))).toEqual(macOf(mac.value, text));
    expect(group.find(own, 'mac')).toEqual(key);
    expect(cluster.met('hsm1').length).toBe(before);
    const template = [{ type: pkcs11.CKA_CLASS, value: pkcs11.CKO_DATA }];
    expect(() => lib.C_CreateObject(own, template)).toThrow('CKR_TOKEN_WRITE_PROTECTED');
    expect(() => lib.C_DestroyObject(own, key)).toThrow('CKR_TOKEN_WRITE_PROTECTED');
    expect(lib.C_GetMechanismList(slots[1] as Handle).length).toBeGreaterThan(10);
    // Logs out on one slot, which ends the login of all slots.
    lib.C_SignInit(session, HMAC, key);
    lib.C_Logout(own);
    expect(lib.C_GetSessionInfo(session).state).toBe(2);
    expect(() => lib.C_Sign(session, text, room())).toThrow('CKR_OPERATION_NOT_INITIALIZED');
  });

  test('loads several groups, with a slot for each', async () => {
    const second = await Cluster.make('second', [[...mac.objects]]);
    group = new LoadedGroup(cluster);
    const alone = new LoadedGroup(second, { ...second.configuration(), label: 'second group' });
    const lib = new PKCS11(`${group.path}, ${alone.path}`);
    try {
      lib.C_Initialize();
      const slots = lib.C_GetSlotList(true);
      expect(slots.map((slot) => lib.C_GetTokenInfo(slot).label.trim())).toEqual(['test group', 'second group']);
      expect(slots[0]).toEqual(group.slot);
      const sessions = slots.map((slot) => lib.C_OpenSession(slot, pkcs11.CKF_SERIAL_SESSION));
      lib.C_Login(sessions[1] as Handle, pkcs11.CKU_USER, second.members[0]?.hsm.pin ?? '');
      expect(sessions.map((session) => lib.C_GetSessionInfo(session).state)).toEqual([0, 1]);
      lib.C_Finalize();
    } finally {
      lib.close();
      alone.close();
      await second.close();
    }
  });

  test('is shared by all that load the same configuration', () => {
    group = new LoadedGroup(cluster);
    const again = new PKCS11(group.path);
    expect(() => again.C_Initialize()).toThrow('CKR_CRYPTOKI_ALREADY_INITIALIZED');
    const session = group.session();
    expect(again.C_GetSessionInfo(session).state).toBe(3);
    again.close();
    expect(group.lib.C_GetSessionInfo(session).state).toBe(3);
    expect(() => again.C_GetInfo()).toThrow('PKCS11 module not loaded yet');
  });

  test('finishes running calls when it is finalized', async () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const session = group.session();
    const key = group.find(session, 'mac');
    const signatures = Array.from({ length: 20 }, (_, at) => {
      lib.C_SignInit(session, HMAC, key);
      return lib.C_SignAsync(session, Buffer.from(`text ${at}`), room());
    });
    lib.C_Finalize();
    for (const [at, signature] of (await Promise.all(signatures)).entries())
      expect(signature).toEqual(macOf(mac.value, Buffer.from(`text ${at}`)));
    expect(() => lib.C_GetSlotList()).toThrow('CKR_CRYPTOKI_NOT_INITIALIZED');
  });

  test('fails at C_Initialize if no member can be reached', () => {
    group = new LoadedGroup(cluster);
    const configuration = cluster.configuration({ ...quickPolicy, deadline: 500 });
    for (const member of configuration.members) Object.assign(member, { module: '/nowhere.so' });
    expect(() => new LoadedGroup(cluster, configuration)).toThrow('CKR_DEVICE_REMOVED');
  });

  test('session objects end with their session on every member', async () => {
    group = new LoadedGroup(cluster);
    const { lib } = group;
    const keeper = group.session();
    const session = group.session();
    const template = [
      { type: pkcs11.CKA_VALUE_LEN, value: 16 },
      { type: pkcs11.CKA_LABEL, value: 'passing' },
      { type: pkcs11.CKA_ENCRYPT, value: true },
    ];
    const key = lib.C_GenerateKey(session, { mechanism: pkcs11.CKM_AES_KEY_GEN }, template);
    expect(group.find(keeper, 'passing')).toEqual(key);
    await group.untilActive();
    group.kill('hsm1');
    for (let i = 0; i < 4; i += 1) {
      lib.C_EncryptInit(keeper, { mechanism: pkcs11.CKM_AES_ECB }, key);
      expect(lib.C_Encrypt(keeper, Buffer.alloc(16), room()).length).toBe(16);
    }
    lib.C_CloseSession(session);
    expect(() => group.find(keeper, 'passing')).toThrow('no passing');
    expect(() => lib.C_EncryptInit(keeper, { mechanism: pkcs11.CKM_AES_ECB }, key)).toThrow('CKR_KEY_HANDLE_INVALID');
  });
});
