import { createPublicKey, verify } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { runCall } from '../../../src/core/call/call.js';
import { findObjects } from '../../../src/core/call/find.js';
import { sign } from '../../../src/core/jobs/operation.js';
import type { VirtualToken } from '../../../src/index.js';
import { readConfiguration } from '../../../src/runtime/groups/configuration-source.js';
import { OpenGroup } from '../../../src/runtime/groups/open-group.js';
import { encodeMechanism } from '../../../src/spec/mechanism.js';
import { encodeTemplate } from '../../../src/spec/template.js';
import { Cluster, untilState } from '../../support/cluster.js';
import { ecPair, rsaPair, secretKey } from '../../support/keys.js';
import { until } from '../../support/waiting.js';

const ec = ecPair('ec');
const rsa = rsaPair('rsa');
const aes = secretKey('aes');
const objects = [ec, rsa, aes].flatMap((key) => key.objects);
const callers = 8;
const callsEach = 6;

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.make('faults', [objects, objects]);
});
afterEach(() => cluster.heal());
afterAll(() => cluster.close());

function isGood(data: Buffer, signature: Buffer): boolean {
  return verify('sha256', data, createPublicKey(rsa.publicKey.export({ format: 'pem', type: 'spki' })), signature);
}

/** Signs with several callers at once; checks each signature apart from the group. */
async function signMany(token: VirtualToken, name: string): Promise<void> {
  const key = await token.get({ label: 'rsa', class: 'PRIVATE_KEY' });
  await Promise.all(
    Array.from({ length: callers }, async (_, caller) => {
      for (let i = 0; i < callsEach; i += 1) {
        const data = Buffer.from(`${name} ${caller} ${i}`);
        expect(isGood(data, await token.sign('SHA256_RSA_PKCS', key, data))).toBe(true);
      }
    }),
  );
}

/** Names and rules of a member's faults. */
const faults = [
  ['CKR_DEVICE_ERROR', 'C_Sign return=0x30'],
  ['CKR_DEVICE_REMOVED', 'C_Sign return=0x32'],
  ['CKR_TOKEN_NOT_PRESENT', 'C_Sign return=0xe0'],
  ['CKR_GENERAL_ERROR', 'C_Sign return=0x05'],
  ['CKR_FUNCTION_FAILED', 'C_Sign return=0x06'],
  ['CKR_SESSION_HANDLE_INVALID', 'C_Sign return=0xb3'],
  ['a code of the vendor', 'C_Sign return=0x80000123'],
  ['CKR_HOST_MEMORY', 'C_Sign return=0x02'],
  ['CKR_KEY_HANDLE_INVALID', 'C_SignInit return=0x60'],
  ['sessions dropped', 'C_SignInit drop times=1'],
  ['a hang in C_Sign', 'C_Sign hang'],
  ['a hang in C_FindObjects', 'C_FindObjects hang'],
  ['SIGSEGV', 'C_Sign crash'],
  ['exit()', 'C_Sign exit=3'],
  ['every call fails', '* return=0x30'],
] as const;

describe('[Rule 1] with one core for asynchronous and synchronous callers', () => {
  test.each(faults)('%s on one member: no asynchronous call fails, and the member comes back', async (name, rule) => {
    const token = await cluster.open();
    await signMany(token, 'before');
    const before = cluster.met('hsm1').length;
    cluster.fault('hsm1', rule);
    do await signMany(token, name);
    while (cluster.met('hsm1').length === before);
    cluster.heal();
    await untilState(token, 'hsm1', 'active');
    await signMany(token, 'after');
    await token.close();
  });

  test.each(faults)('%s on one member: no synchronous call fails', async (name, rule) => {
    const open = await OpenGroup.open(readConfiguration(cluster.configuration()));
    await open.awaitService(open.now() + 10_000);
    // Waits for all members first, since a synchronous program gives joining members little time.
    await until(
      () => open.group.members.every(({ isActive }) => isActive),
      () => 'all members are active',
    );
    const template = encodeTemplate('template', { label: 'rsa', class: 'PRIVATE_KEY' });
    const signOnce = (text: string): void => {
      const data = Buffer.from(text);
      const [key] = open.runSync(findObjects(open.group, template, open.now() + 10_000));
      if (key === undefined) throw new Error('the key is not there');
      const signature = open.runSync(
        runCall(open.group, sign(encodeMechanism('m', 'SHA256_RSA_PKCS'), key, data), open.now() + 10_000),
      );
      expect(isGood(data, signature)).toBe(true);
    };
    signOnce('before');
    const before = cluster.met('hsm1').length;
    cluster.fault('hsm1', rule);
    for (let i = 0; cluster.met('hsm1').length === before || i < callsEach; i += 1) signOnce(`${name} ${i}`);
    cluster.heal();
    signOnce('after');
    await open.close();
  });
});
