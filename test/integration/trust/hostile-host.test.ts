import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { GroupConfigInput, MemberEvent, TokenObject, VirtualToken } from '../../../src/index.js';
import { Cluster, untilState } from '../../support/cluster.js';
import { hostileModule } from '../../support/hostile/build.js';
import { within } from '../../support/waiting.js';

const data = Buffer.alloc(16, 7);
const IMPOSSIBLE = 'the host said what cannot be, and was ended';

let cluster: Cluster;
let control: string;
let token: VirtualToken;
let key: TokenObject;
let right: string;

/** Returns the configuration with a hostile library between hsm1's host and its token. */
function configuration(): GroupConfigInput {
  const whole = cluster.configuration({ hangAfter: 2000 });
  const members = whole.members.map((member) =>
    member.name === 'hsm1'
      ? {
          ...member,
          module: hostileModule,
          env: { ...member.env, HOSTILE_MODULE: cluster.member('hsm1').hsm.module, HOSTILE_CONTROL: control },
        }
      : member,
  );
  return { ...whole, members };
}

const encrypt = async (): Promise<string> => (await token.encrypt('AES_ECB', key, data)).toString('hex');

beforeEach(async () => {
  cluster = await Cluster.form('hostile-host');
  control = join(cluster.folder.path, 'harm');
  token = await cluster.open(configuration());
  key = await token.generateKey('AES_KEY_GEN', { token: true, label: 'k', valueLen: 32, encrypt: true });
  right = await encrypt();
});
afterEach(() => cluster.close());

describe('[Rule 18] a host that says what cannot be', () => {
  test.each([
    'scribble',
    'packets',
    'forged',
    'flood',
    'bells',
    'descriptors',
    'huge',
    'pipe',
    'device',
    'shrinking',
    'counters',
  ])('is ended, and its member replaced by the other one: %s', async (harm) => {
    const ended = new Promise<void>((resolve) => {
      token.on('member', ({ member, reason }: MemberEvent) => {
        if (member === 'hsm1' && reason.startsWith(IMPOSSIBLE)) resolve();
      });
    });
    writeFileSync(control, harm);
    let isEnded = false;
    void ended.then(() => {
      isEnded = true;
    });
    // Calls go on: no result is wrong, and no call fails.
    const calls = (async (): Promise<void> => {
      while (!isEnded) expect(await encrypt()).toBe(right);
    })();
    await within(ended, () => `hsm1 is ended for ${harm}`);
    await calls;
    for (let i = 0; i < 20; i += 1) expect(await encrypt()).toBe(right);
    expect(token.status().members[1]?.state).toBe('active');
    // Without the harm the member comes back.
    writeFileSync(control, '');
    await untilState(token, 'hsm1', 'active');
    expect(await encrypt()).toBe(right);
  });

  test('cannot make the shared memory smaller', async () => {
    const printed: string[] = [];
    token.on('output', ({ text }) => printed.push(text));
    writeFileSync(control, 'truncated');
    for (let i = 0; i < 50; i += 1) expect(await encrypt()).toBe(right);
    expect(printed.join('')).not.toContain('the page was truncated');
    expect(token.status().members.map(({ state }) => state)).toEqual(['active', 'active']);
  });
});
