import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { addon } from '../../src/runtime/hosts/addon.js';
import { ck } from '../../src/spec/constants.js';
import { type Job, resultOf, step } from '../../src/spec/job.js';
import { encodeTemplate } from '../../src/spec/template.js';
import { attach, BareHost } from '../support/bare-host.js';
import { type Hsm, makeFolder, makeHsm } from '../support/softhsm.js';

/** Number of objects that each host makes; without the lock one of three rounds leaves a host blind. */
const ROUNDS = 40;

const folder = makeFolder('token-lock');
const path = join(folder.path, 'lock');
const hosts: BareHost[] = [];
let hsm: Hsm;
beforeAll(async () => {
  writeFileSync(path, '');
  hsm = await makeHsm(folder.path, 'locked', {});
});
afterEach(async () => {
  for (const host of hosts.splice(0)) {
    host.channel.close();
    await host.ended;
  }
});
afterAll(() => folder.remove());

/** Starts a host on the token that uses the lock file. */
function startHost(lanes: number): BareHost {
  const host = new BareHost(hsm.env);
  hosts.push(host);
  attach(host, hsm.module, hsm.label, lanes);
  const lasting = encodeTemplate('lasting', { label: 'lasting' });
  const { results } = host.call({ steps: [step('X_UseTokenLock', path, lasting)], sessionless: true });
  expect(results).toMatchObject([{ code: ck('CKR_OK') }]);
  return host;
}

const making = (label: string): Job => ({
  steps: [step('C_CreateObject', encodeTemplate('data', { class: 'DATA', token: true, private: false, label }))],
  exclusive: true,
  longWrite: true,
});

const count = (host: BareHost, label: string): number =>
  resultOf(host.call({ steps: [step('X_Find', encodeTemplate('find', { label }), 10, [])] }), 0, 'X_Find').length;

describe('the lock of a token', () => {
  test('[Rule 14] lets two hosts that write at once see what the other one wrote', () => {
    const [one, other] = [startHost(1), startHost(1)];
    one.call(making('lasting'));
    for (let round = 0; round < ROUNDS; round += 1) {
      one.send(making(`one ${round}`));
      other.send(making(`other ${round}`));
      for (const host of [one, other]) expect(host.receive().results).toMatchObject([{ code: ck('CKR_OK') }]);
      expect([count(one, `other ${round}`), count(other, `one ${round}`)]).toEqual([1, 1]);
    }
  });

  test('is waited for while reads go on, and not for long: its holder may be stopped', () => {
    const host = startHost(2);
    const descriptor = openSync(path, 'r+');
    try {
      expect(addon.lockByte(descriptor, 0, true)).toBe(true);
      const write = host.send(making('late'));
      const read = host.send({ steps: [step('C_GetSessionInfo')] });
      expect([host.receive().id, host.receive().id]).toEqual([read, write]);
      expect(count(host, 'late')).toBe(1);
    } finally {
      closeSync(descriptor);
    }
  });

  test('reports a lock file that cannot be opened', () => {
    const { results } = startHost(1).call({ steps: [step('X_UseTokenLock', '/nowhere/lock', [])], sessionless: true });
    expect(results).toMatchObject([{ code: ck('CKR_FUNCTION_FAILED') }]);
  });
});
