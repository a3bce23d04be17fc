import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { release } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { GroupConfigInput, MemberInput } from '../../../src/index.js';
import { fileNameOf } from '../../../src/runtime/coordination/local/lock-folder.js';
import { hostExecutable } from '../../../src/runtime/hosts/addon.js';
import { Cluster, quickPolicy } from '../../support/cluster.js';
import { type Folder, makeFolder } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

/** Exit code of a host on a kernel that cannot confine it; see native/host/process/sandbox.h. */
const NO_SANDBOX = 113;
const isConfinable = spawnSync(hostExecutable, [String(process.pid), '--sandbox', '--connect=1']).status !== NO_SANDBOX;
/** True if the kernel can keep a host from sending signals (Landlock's version 6). */
const [major = 0, minor = 0] = release().split('.').map(Number);
const keepsSignals = major > 6 || (major === 6 && minor >= 12);

let cluster: Cluster;
let outside: Folder;
let server: Server;
let port: number;
beforeEach(async () => {
  cluster = await Cluster.form('sandbox', [[], []]);
  outside = makeFolder('outside');
  writeFileSync(join(outside.path, 'secret'), 'secret');
  server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  port = typeof address === 'object' && address !== null ? address.port : 0;
});
afterEach(async () => {
  await cluster.close();
  outside.remove();
  rmSync(join(locks(), 'new'), { force: true });
  await new Promise((resolve) => server.close(resolve));
});

/** Returns the group's lock folder. */
const locks = (): string => join(process.env.PKCS11_HA_LOCKS ?? '', fileNameOf('test group'));

/** Returns what the library of hsm1 tries: things that no HSM needs. */
const tries = (): string[] => [
  `read ${join(outside.path, 'secret')}`,
  `read /proc/${process.pid}/environ`,
  `write ${join(outside.path, 'new')}`,
  `write ${join(locks(), 'new')}`,
  `connect ${port}`,
  `mptcp ${port}`,
  `fastopen ${port}`,
  'listen 0',
  ...(keepsSignals ? [`signal ${process.pid}`] : []),
  'read /etc/hosts',
  `write ${join(cluster.folder.path, 'allowed')}`,
];

function configuration(sandbox: MemberInput['sandbox']): GroupConfigInput {
  const whole = cluster.configuration();
  const members = whole.members.map((member) => ({
    ...member,
    env: { ...member.env, FAULTY_PEEK: tries().join(':') },
    ...(sandbox === undefined ? {} : { sandbox }),
  }));
  return { ...whole, members };
}

/** Opens the group, has the library of hsm1 try all things, and returns what came of them. */
async function outcomes(sandbox: MemberInput['sandbox']): Promise<string[]> {
  const token = await cluster.open(configuration(sandbox));
  await until(
    () => token.status().members.every(({ state }) => state === 'active'),
    () => JSON.stringify(token.status().members.map(({ state, reason }) => [state, reason])),
  );
  const key = await token.generateKey('AES_KEY_GEN', { token: true, label: 'k', valueLen: 32, encrypt: true });
  cluster.fault('hsm1', 'C_GenerateRandom peek times=1');
  const last = tries().at(-1) ?? '';
  await until(
    async () => {
      await token.random(8);
      await token.encrypt('AES_ECB', key, Buffer.alloc(16));
      return cluster.met('hsm1').some((line) => line.startsWith(`${last}:`));
    },
    () => 'the library of hsm1 has tried everything',
  );
  await token.close();
  return cluster.met('hsm1').flatMap((line) => (tries().some((each) => line.startsWith(`${each}:`)) ? [line] : []));
}

(isConfinable ? describe : describe.skip)('a host with `sandbox`', () => {
  test('works, and its library reads, writes and reaches nothing but what it may', async () => {
    const found = await outcomes({ write: [cluster.folder.path], connect: [] });
    const allowed = (line: string): boolean => line.includes('/etc/hosts') || line.includes('allowed');
    expect(found).toEqual(
      tries().map((each) =>
        expect.stringMatching(allowed(each) ? /: done$/u : /: (?:Permission denied|Operation not)/u),
      ),
    );
  });

  test('may connect to the ports that are named', async () => {
    const found = await outcomes({ write: [cluster.folder.path], connect: [port] });
    expect(found).toContain(`connect ${port}: done`);
  });

  test('without it, a library may do what the user may do', async () => {
    expect(await outcomes(undefined)).toEqual(tries().map((each) => `${each}: done`));
  });

  test('does not start without a path that it names, and says so', async () => {
    const missing = { read: [join(outside.path, 'missing')], write: [cluster.folder.path] };
    const quick = { ...configuration(missing), policy: { ...quickPolicy, deadline: 1000 } };
    await expect(cluster.open(quick)).rejects.toThrow('a path of `sandbox` cannot be opened');
  });
});
