import { createHash, createHmac, createPublicKey, randomBytes, verify } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import type { BackupTokenInput, GroupConfigInput, TokenObject, VirtualToken } from '../../src/index.js';
import type { Cluster } from './cluster.js';
import { faultyModule } from './faulty/build.js';
import { type Hsm, makeHsm, provision, type ReadObject, readToken } from './softhsm.js';

/** Token for backups, behind the faulty module and with a PIN of its own. */
export class Vault {
  readonly #variable = `PKCS11_HA_TEST_BACKUP_PIN_${process.pid}`;

  private constructor(
    readonly folder: string,
    readonly hsm: Hsm,
  ) {
    process.env[this.#variable] = hsm.pin;
  }

  static async make({ folder }: Cluster, name = 'backup', pin = '975310'): Promise<Vault> {
    return new Vault(folder.path, await makeHsm(folder.path, name, { pin }));
  }

  /** Configuration that selects the token in calls of `backup` and `restore`. */
  get input(): BackupTokenInput {
    const { hsm, folder } = this;
    return {
      module: faultyModule,
      token: { serial: hsm.serial },
      env: {
        ...hsm.env,
        FAULTY_MODULE: hsm.module,
        FAULTY_CONTROL: join(folder, 'backup.control'),
        FAULTY_LOG: join(folder, 'backup.log'),
      },
      pin: { env: this.#variable },
    };
  }

  /** Sets the token's fault; faulty/faulty.c has the syntax. */
  fault(rule: string): void {
    const control = join(this.folder, 'backup.control');
    writeFileSync(`${control}.new`, `${rule}\n`);
    renameSync(`${control}.new`, control);
  }

  heal(): void {
    rmSync(join(this.folder, 'backup.control'), { force: true });
  }

  /** Number of faults that the token has met. */
  get met(): number {
    const log = join(this.folder, 'backup.log');
    return existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter(Boolean).length : 0;
  }

  /** Reads the token apart from the group. */
  read(): Promise<readonly ReadObject[]> {
    return readToken(this.hsm);
  }

  /** Counts the token's objects by label; `record` stands for records of backups. */
  async counts(): Promise<Readonly<Record<string, number>>> {
    const counts: Record<string, number> = {};
    for (const { label } of await this.read()) {
      const what = /^pkcs11-ha:backup [0-9a-f]{16} /u.test(label) ? 'record' : label;
      counts[what] = (counts[what] ?? 0) + 1;
    }
    return counts;
  }

  /** Reads the bytes of all data objects, for a search for secrets. */
  async values(): Promise<Buffer> {
    const { values } = await provision(this.hsm, { values: true });
    return Buffer.concat(values.map((value) => Buffer.from(value, 'hex')));
  }

  close(): void {
    delete process.env[this.#variable];
  }
}

const aes = { token: true, valueLen: 32, encrypt: true, decrypt: true, sensitive: true };
/** Input of one block for all keys. */
export const data: Buffer = Buffer.from('sixteen bytes...');

/** Object with a check that a virtual token still uses or reads it rightly. */
export interface Kept {
  readonly handle: number;
  readonly label: string;
  readonly check: (token: VirtualToken) => Promise<void>;
}

/** Returns the check that a key gives the same result as before. */
const same = (key: TokenObject, result: Buffer, mechanism: 'AES_ECB' | 'SHA256_HMAC'): Kept => ({
  handle: key.handle,
  label: key.label,
  check: async (token) => {
    const got =
      mechanism === 'AES_ECB'
        ? await token.encrypt(mechanism, key.handle, data)
        : await token.sign(mechanism, key.handle, data);
    expect(got).toEqual(result);
  },
});

/**
 * Makes keys of every wrapping method, twins, renamed keys, copies, key pairs and public objects. `secrets` has values
 * that must be nowhere in the clear.
 */
export async function makeAll(token: VirtualToken): Promise<{ kept: Kept[]; secrets: Buffer[] }> {
  const kept: Kept[] = [];
  const secrets: Buffer[] = [];
  const keep = async (key: TokenObject): Promise<void> => {
    kept.push(same(key, await token.encrypt('AES_ECB', key, data), 'AES_ECB'));
  };
  for (const extractable of [true, false]) {
    await keep(await token.generateKey('AES_KEY_GEN', { ...aes, label: `aes ${extractable}`, extractable }));
    const value = randomBytes(33);
    secrets.push(value);
    const odd = { class: 'SECRET_KEY', keyType: 'GENERIC_SECRET', token: true, sign: true } as const;
    const made = await token.createObject({ ...odd, label: `odd ${extractable}`, value, extractable, sensitive: true });
    kept.push(same(made, createHmac('sha256', value).update(data).digest(), 'SHA256_HMAC'));
  }
  const value = randomBytes(32);
  secrets.push(value);
  await keep(
    await token.createObject({
      class: 'SECRET_KEY',
      keyType: 'AES',
      token: true,
      encrypt: true,
      label: 'known',
      value,
      extractable: true,
      sensitive: true,
    }),
  );
  // Twins have one name and two keys.
  for (let i = 0; i < 2; i += 1)
    await keep(await token.generateKey('AES_KEY_GEN', { ...aes, label: 'twin', extractable: i === 0 }));
  const renamed = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'old name', extractable: false });
  await token.setAttributes(renamed, { label: 'new name' });
  await keep(renamed);
  // Copies have one name and one key, with another use, and with the same use twice.
  const source = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'copy', extractable: true });
  await keep(source);
  for (const decrypt of [false, false]) await keep(await token.copyObject(source, { token: true, decrypt }));
  kept.push(...(await makePairs(token)));
  for (const label of ['private data', 'public data']) {
    const content = { class: 'DATA', token: true, label, value: Buffer.from(label) } as const;
    const { handle } = await token.createObject({ ...content, private: label === 'private data' });
    kept.push({
      handle,
      label,
      check: async (other) => {
        expect(await other.getAttributes(handle, ['value'])).toEqual({ value: Buffer.from(label) });
      },
    });
  }
  await token.createObject({
    class: 'CERTIFICATE',
    certType: 'X_509',
    token: true,
    label: 'certificate',
    subject: Buffer.from('3000', 'hex'),
    value: Buffer.from('30030201', 'hex'),
  });
  return { kept, secrets };
}

/** Makes an RSA and an EC key pair, checked by node:crypto. */
async function makePairs(token: VirtualToken): Promise<Kept[]> {
  const kept: Kept[] = [];
  const rsa = await token.generateKeyPair(
    'RSA_PKCS_KEY_PAIR_GEN',
    { token: true, label: 'rsa', modulusBits: 2048, publicExponent: Buffer.from([1, 0, 1]), verify: true },
    { token: true, label: 'rsa', sign: true, extractable: false, sensitive: true },
  );
  const { modulus, publicExponent } = await token.getAttributes(rsa.publicKey, ['modulus', 'publicExponent']);
  const url = (bytes: unknown): string => Buffer.from(bytes as Buffer).toString('base64url');
  const rsaKey = createPublicKey({ key: { kty: 'RSA', n: url(modulus), e: url(publicExponent) }, format: 'jwk' });
  const ec = await token.generateKeyPair(
    'EC_KEY_PAIR_GEN',
    { token: true, label: 'ec', paramsEC: Buffer.from('06082a8648ce3d030107', 'hex'), verify: true },
    { token: true, label: 'ec', sign: true, extractable: false, sensitive: true },
  );
  const { pointEC } = await token.getAttributes(ec.publicKey, ['pointEC']);
  const point = (pointEC as Buffer).subarray(-64);
  const ecKey = createPublicKey({
    key: { kty: 'EC', crv: 'P-256', x: url(point.subarray(0, 32)), y: url(point.subarray(32)) },
    format: 'jwk',
  });
  for (const { publicKey, privateKey } of [rsa, ec]) {
    const isRsa = publicKey === rsa.publicKey;
    const mechanism = isRsa ? 'SHA256_RSA_PKCS' : 'ECDSA';
    const key = isRsa ? rsaKey : ecKey;
    // Digests first for EC: SoftHSM has plain ECDSA only.
    const signed = isRsa ? data : createHash('sha256').update(data).digest();
    kept.push({
      handle: privateKey.handle,
      label: privateKey.label,
      check: async (other) => {
        const signature = await other.sign(mechanism, privateKey.handle, signed);
        expect(verify('sha256', data, { key, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
        expect(await other.verify(mechanism, publicKey.handle, signed, signature)).toBe(true);
      },
    });
  }
  return kept;
}

/** Describes all objects as the virtual token shows them, in an order that does not change. */
export async function portrait(token: VirtualToken): Promise<readonly object[]> {
  const objects = await token.find();
  const all: object[] = [];
  for (const { handle, class: objectClass, type, label, id } of objects) {
    const names = ['extractable', 'sensitive', 'alwaysSensitive', 'local', 'sign', 'encrypt'] as const;
    const flags = /KEY$/u.test(objectClass) ? await readFlags(token, handle, names) : {};
    all.push({ handle, class: objectClass, type, label, id: id.toString('hex'), ...flags });
  }
  return all.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

/** Reads attributes one by one; null stands for one that the object does not have. */
async function readFlags(token: VirtualToken, handle: number, names: readonly string[]): Promise<object> {
  const flags: Record<string, unknown> = {};
  for (const name of names) {
    flags[name] = await token.getAttributes(handle, [name]).then(
      (read) => read[name],
      () => null,
    );
  }
  return flags;
}

/** Returns a configuration of a cluster's members from `from` to before `to`. */
export function partOf(cluster: Cluster, from: number, to: number, label = 'test group'): GroupConfigInput {
  const whole = cluster.configuration({ hangAfter: 1000, writeHangAfter: 10_000, deadline: 20_000 });
  return { ...whole, label, members: whole.members.slice(from, to) };
}
