import { randomBytes } from 'node:crypto';
import { readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { createGroup, deleteGroup, type GroupConfigInput, type VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, quickPolicy, untilState } from '../../support/cluster.js';
import { rsaPair, secretKey } from '../../support/keys.js';
import { type Hsm, readToken } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
afterEach(() => cluster.close());

const members = ['hsm1', 'hsm2'] as const;
const aes = { token: true, valueLen: 32, encrypt: true, extractable: false, sensitive: true };
const policy = (more: GroupConfigInput['policy']): GroupConfigInput =>
  cluster.configuration({ ...quickPolicy, ...more });

describe('one token as two members', () => {
  /** Returns a configuration in which hsm2 is the token of hsm1, named in another way. */
  const twice = (): GroupConfigInput => {
    const { members: all, ...rest } = cluster.configuration({});
    const [one, two] = all;
    if (one === undefined || two === undefined) throw new Error('two members');
    return { ...rest, members: [one, { ...two, token: { label: 'hsm1' }, env: one.env ?? {} }] };
  };

  test('forms no group, and leaves nothing on the token', async () => {
    cluster = await Cluster.make('twice', [[], []]);
    await expect(createGroup(twice())).rejects.toThrow(/hsm[12] has the same token, or another one with the serial/u);
    expect(await cluster.readOwn('hsm1')).toEqual([]);
  });

  test('is one member: the other one is down, with the reason', async () => {
    cluster = await Cluster.form('twice');
    const token = await cluster.open(twice());
    await until(
      () =>
        token
          .status()
          .members.some(({ state, reason }) => state === 'down' && /has the same token/u.test(reason ?? '')),
      () => 'one member is refused',
    );
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'once' });
    expect((await cluster.read('hsm1')).map(({ label }) => label)).toEqual(['once']);
  });
});

describe('forming a group', () => {
  const theirs = rsaPair('theirs');
  const mac = secretKey('mac', undefined, { type: 'GENERIC_SECRET' });
  const objects = [theirs, mac].flatMap((key) => key.objects);

  test('probes the wrapping methods, and deleting the group leaves the tokens as they were', async () => {
    cluster = await Cluster.make('forming', [objects, objects]);
    const configuration = cluster.configuration({});
    const before = await cluster.read('hsm1');
    const report = await createGroup(configuration);
    expect(report).toMatchObject({ label: 'test group', adopted: false, wrap: 'CKM_AES_KEY_WRAP_PAD' });
    expect(report.travels).toMatchObject({
      AES: 'wrapped',
      RSA: 'wrapped',
      EC: 'wrapped',
      'GENERIC_SECRET of odd length': 'for each member',
      EC_EDWARDS: 'not',
    });
    for (const name of members)
      expect(await cluster.readOwn(name)).toEqual(['pkcs11-ha:domain', 'pkcs11-ha:group', 'pkcs11-ha:transport']);
    expect(await deleteGroup(configuration)).toEqual({ hsm1: 3, hsm2: 3 });
    for (const name of members) expect(await cluster.readOwn(name)).toEqual([]);
    expect(await cluster.read('hsm1')).toEqual(before);
  });

  test('if no token wraps under the domain key, as behind p11-kit, secret keys are wrapped for each member', async () => {
    cluster = await Cluster.make('for-each', [[], [], []]);
    // Takes the mechanisms 0x2109 to 0x210b from all members.
    const none = ['0921', '0a21', '0b21'].map((mechanism) => `C_WrapKey return=0x70 data=${mechanism}`);
    for (const { name } of cluster.members) cluster.fault(name, ...none);
    const whole = cluster.configuration({});
    const third = whole.members[2];
    const two = { ...whole, members: whole.members.slice(0, 2) };
    const { wrap, travels } = await createGroup(two);
    expect(wrap).toBe('CKM_RSA_PKCS_OAEP');
    expect(travels).toMatchObject({
      AES: 'for each member',
      GENERIC_SECRET: 'for each member',
      'GENERIC_SECRET of odd length': 'for each member',
      RSA: 'not',
      EC: 'not',
    });
    const token = await cluster.open(two);
    const labels = ['at first', 'while hsm2 was away'];
    const keys = [await token.generateKey('AES_KEY_GEN', { ...aes, label: labels[0] ?? '' })];
    const pair = token.generateKeyPair(
      'EC_KEY_PAIR_GEN',
      { token: true, label: 'pair', verify: true, paramsEC: Buffer.from('06082a8648ce3d030107', 'hex') },
      { token: true, label: 'pair', sign: true, sensitive: true, extractable: false },
    );
    await expect(pair).rejects.toMatchObject({ code: 0x69 });
    cluster.fault('hsm2', 'C_Initialize return=0x30', ...none);
    process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
    await untilState(token, 'hsm2', 'down');
    keys.push(await token.generateKey('AES_KEY_GEN', { ...aes, label: labels[1] ?? '' }));
    cluster.fault('hsm2', ...none);
    await untilState(token, 'hsm2', 'active');
    // Adds a member, which gets the keys from their sealed forms.
    if (third !== undefined) await token.addMember(third);
    await cluster.untilTidy();
    const [one, ...others] = await Promise.all(cluster.members.map(({ name }) => cluster.read(name)));
    expect(one?.map(({ label }) => label).sort()).toEqual(labels);
    for (const other of others) expect(other).toEqual(one);
    for (const key of keys) expect(await token.encrypt('AES_ECB', key, 'sixteen bytes...')).toHaveLength(16);
  });

  test('the domain key cannot be extracted, and can only wrap and unwrap', async () => {
    cluster = await Cluster.form('domain');
    for (const { hsm } of cluster.members) {
      const found = await readToken(hsm);
      const domain = found.find(({ label }) => label === 'pkcs11-ha:domain');
      expect(domain).toMatchObject({ wrapped: 'CKR_KEY_UNEXTRACTABLE', value: 'CKR_ATTRIBUTE_SENSITIVE' });
      expect(domain?.flags).toEqual(['TOKEN', 'PRIVATE', 'SENSITIVE', 'MODIFIABLE', 'WRAP', 'UNWRAP']);
      const transport = found.find(({ label }) => label === 'pkcs11-ha:transport');
      expect(transport).toMatchObject({ wrapped: 'CKR_KEY_UNEXTRACTABLE' });
      expect(transport?.flags).toEqual(['TOKEN', 'PRIVATE', 'SENSITIVE', 'MODIFIABLE', 'UNWRAP']);
    }
    // Looks as an application, which sees neither the domain key nor any record.
    const token = await cluster.open();
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'key' });
    expect((await token.find()).map(({ label }) => label)).toEqual(['key']);
    expect(await token.find({ label: 'pkcs11-ha:domain' })).toEqual([]);
    expect(await token.find({ class: 'DATA' })).toEqual([]);
    for (const label of ['pkcs11-ha:domain', 'pkcs11-ha:group'])
      await expect(token.createObject({ class: 'DATA', token: true, label })).rejects.toMatchObject({ code: 0x13 });
    await expect(
      token.setAttributes(await token.get({ label: 'key' }), { label: 'pkcs11-ha:x' }),
    ).rejects.toMatchObject({
      code: 0x13,
    });
  });

  test('on tokens of another group is refused, unless that group is to be adopted or removed', async () => {
    cluster = await Cluster.form('existing');
    const configuration = cluster.configuration({});
    const first = await cluster.open();
    const key = await first.generateKey('AES_KEY_GEN', { ...aes, label: 'key' });
    const result = await first.encrypt('AES_ECB', key, Buffer.alloc(16));
    await expect(createGroup(configuration)).rejects.toMatchObject({
      code: 0x1b,
      message: expect.stringContaining("existing: 'copy' adopts that group as it is, 'remove' starts over"),
    });
    const own = await cluster.readOwn('hsm1');
    expect(await createGroup(configuration, { existing: 'copy' })).toMatchObject({ adopted: true });
    expect(await cluster.readOwn('hsm1')).toEqual(own);
    expect(await createGroup(configuration, { existing: 'remove' })).toMatchObject({ adopted: false });
    expect(await cluster.readOwn('hsm1')).toEqual(['pkcs11-ha:domain', 'pkcs11-ha:group', 'pkcs11-ha:transport']);
    // The applications' keys are there as before; their handles stood in the records of the former group.
    const token = await cluster.open();
    const found = await token.get({ label: 'key' });
    expect(await token.encrypt('AES_ECB', found, Buffer.alloc(16))).toEqual(result);
  });

  test('leaves nothing on any token if a member refuses a record', async () => {
    cluster = await Cluster.make('half', [[], []]);
    const configuration = cluster.configuration({});
    let failures = 0;
    for (let skip = 0; ; skip += 1) {
      cluster.fault('hsm2', `C_CreateObject return=0x13 skip=${skip}`);
      const formed = await createGroup(configuration).then(
        () => true,
        () => false,
      );
      cluster.heal();
      if (formed) break;
      failures += 1;
      for (const name of members) expect(await cluster.readOwn(name)).toEqual([]);
    }
    expect(failures).toBeGreaterThan(1);
  });

  test('without a group record keys can be used but not made', async () => {
    cluster = await Cluster.make('recordless', [mac.objects, mac.objects]);
    const token = await cluster.open();
    expect(await token.sign('SHA256_HMAC', await token.get({ label: 'mac' }), 'data')).toHaveLength(32);
    await expect(token.generateKey('AES_KEY_GEN', aes)).rejects.toMatchObject({
      code: 0x54,
      message: expect.stringContaining('createGroup'),
    });
  });

  test('a token of another group is not changed and does not serve', async () => {
    cluster = await Cluster.form('strangers', [[], [], []]);
    const configuration = cluster.configuration({});
    const [first, second, third] = configuration.members as [
      GroupConfigInput['members'][number],
      GroupConfigInput['members'][number],
      GroupConfigInput['members'][number],
    ];
    await createGroup({ ...configuration, members: [third] }, { existing: 'remove' });
    // Delays hsm3, since the first member to join decides the group.
    cluster.fault('hsm3', 'C_Initialize delay=300');
    const token = await cluster.open({ ...configuration, members: [first, second, third] });
    await untilState(token, 'hsm3', 'down');
    expect(token.status().members[2]?.reason).toContain('another group');
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'key' });
    expect(await cluster.read('hsm3')).toEqual([]);
    expect(await token.encrypt('AES_ECB', key, Buffer.alloc(16))).toHaveLength(16);
  });
});

describe('policies', () => {
  const sealedOf = async (hsm: Hsm, label: string): Promise<boolean> =>
    (await readToken(hsm)).some((object) => object.label.startsWith(label));

  test('nonExtractable: a returning member gets sealed keys, no unsealed ones, and with refuse none is made', async () => {
    cluster = await Cluster.form('sealing');
    const refusing = await cluster.open(policy({ nonExtractable: 'refuse' }));
    await expect(refusing.generateKey('AES_KEY_GEN', aes)).rejects.toMatchObject({ code: 0xd1 });
    expect(await refusing.generateKey('AES_KEY_GEN', { ...aes, label: 'x', extractable: true })).toBeDefined();
    for (const [mode, returns] of [
      ['sealed', true],
      ['unsealed', false],
    ] as const) {
      const token = await cluster.open(policy({ nonExtractable: mode }));
      cluster.fault('hsm2', 'C_Initialize return=0x30');
      process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
      await untilState(token, 'hsm2', 'down');
      await token.generateKey('AES_KEY_GEN', { ...aes, label: mode });
      cluster.heal();
      await untilState(token, 'hsm2', 'active');
      expect((await cluster.read('hsm2')).some(({ label }) => label === mode)).toBe(returns);
      await token.close();
    }
    expect(await sealedOf(cluster.member('hsm1').hsm, 'pkcs11-ha:key')).toBe(true);
  });

  test('[Rule 15] durability: a call that reaches too few members fails, and what it made is undone', async () => {
    cluster = await Cluster.form('durability');
    const token = await cluster.open(policy({ durability: 2, deadline: 5000 }));
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'both' });
    cluster.fault('hsm2', 'C_Initialize return=0x30');
    process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
    await untilState(token, 'hsm2', 'down');
    await expect(token.generateKey('AES_KEY_GEN', { ...aes, label: 'one' })).rejects.toMatchObject({
      message: expect.stringContaining('1 of 2 required members'),
    });
    cluster.heal();
    await untilState(token, 'hsm2', 'active');
    for (const name of members) expect((await cluster.read(name)).map(({ label }) => label)).toEqual(['both']);
  });

  test('replication: external makes keys on one member only', async () => {
    cluster = await Cluster.form('external');
    const token = await cluster.open(policy({ replication: 'external' }));
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'cloned' });
    const holders = await Promise.all(members.map((name) => cluster.read(name)));
    expect(holders.flat().filter(({ label }) => label === 'cloned')).toHaveLength(1);
    const block = randomBytes(16);
    const text = await token.encrypt('AES_ECB', key, block);
    for (let i = 0; i < 6; i += 1) expect(await token.encrypt('AES_ECB', key, block)).toEqual(text);
    // Signs with the private key, of which the other member has no replica.
    const pair = await token.generateKeyPair(
      'RSA_PKCS_KEY_PAIR_GEN',
      { token: true, label: 'pair', modulusBits: 2048 },
      { token: true, label: 'pair', sign: true, extractable: false },
    );
    expect(await token.sign('SHA256_RSA_PKCS', pair.privateKey, 'data')).toHaveLength(256);
  });
});

describe('after interrupted writes', () => {
  /** Returns the files of a SoftHSM token's objects, the newest last. */
  function filesOf({ directory }: Hsm): string[] {
    const folder = readdirSync(directory).find((name) => statSync(join(directory, name)).isDirectory()) ?? '';
    return readdirSync(join(directory, folder))
      .filter((name) => name.endsWith('.object'))
      .map((name) => join(directory, folder, name))
      .sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs);
  }

  test('partial objects are removed, and the replica that was lost is restored', async () => {
    cluster = await Cluster.form('hollow');
    const { hsm } = cluster.member('hsm2');
    const making = await cluster.open();
    const key = await making.generateKey('AES_KEY_GEN', { ...aes, label: 'key' });
    const block = randomBytes(16);
    const text = await making.encrypt('AES_ECB', key, block);
    // Ends the host in the write that changes the key, and empties the key's file.
    cluster.fault('hsm2', 'C_SetAttributeValue exit=9 times=1 when=after');
    const before = new Map(filesOf(hsm).map((file) => [file, statSync(file).mtimeMs]));
    const changed = making.setAttributes(key, { label: 'renamed' });
    await cluster.untilMet('hsm2', /C_SetAttributeValue exit/u);
    cluster.fault('hsm2', 'C_Initialize return=0x30');
    await changed;
    const touched = filesOf(hsm).filter(
      (file) => before.get(file) !== undefined && before.get(file) !== statSync(file).mtimeMs,
    );
    expect(touched).toHaveLength(1);
    for (const file of touched) truncateSync(file);
    // Adds the file of an object that was only begun.
    const begun = join(touched[0] as string, '..', '11111111-2222-3333-4444-555555555555.object');
    writeFileSync(begun, Buffer.alloc(8));
    writeFileSync(begun.replace('.object', '.lock'), '');
    cluster.heal();
    await untilState(making, 'hsm2', 'active');
    const found = (await cluster.read('hsm2')).filter(({ label }) => label === 'renamed');
    expect(found).toEqual((await cluster.read('hsm1')).filter(({ label }) => label === 'renamed'));
    expect(found).toHaveLength(1);
    const isWhole = async (): Promise<boolean> => (await cluster.read('hsm2')).every((object) => object.class >= 0);
    await until(isWhole, () => 'the partial object is removed');
    const alone = await aloneOn('hsm2');
    expect(await alone.encrypt('AES_ECB', key.handle, block)).toEqual(text);
  });

  async function aloneOn(name: string): Promise<VirtualToken> {
    const configuration = cluster.configuration();
    return await cluster.open({
      ...configuration,
      members: configuration.members.filter((member) => member.name === name),
    });
  }
});
