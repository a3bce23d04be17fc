import { describe, expect, test } from '@jest/globals';
import {
  ConfigurationError,
  checkConfiguration,
  parseConfiguration,
} from '../../../src/core/configuration/validation.js';

const good = `label: linotp
members:
  - name: hsm1
    module: /usr/lib/libhsm.so
    token: { serial: "0011" }
    env: { HSM_CONF: /etc/hsm1.conf }
    weight: 2
  - name: hsm2
    module: /usr/lib/libhsm.so
    token: { label: two }
    standby: true
pin: { file: /run/secrets/pin }
policy:
  deadline: 5s
  hangAfter: 750ms
  balance: primary
  replayLimit: 512KiB
  verdicts: { CKR_FUNCTION_FAILED: member, 0x80000001: busy }
log: { file: /var/log/ha.jsonl, maxSize: 1MiB }
`;

describe('a configuration', () => {
  test('has the written values, and defaults for the rest', () => {
    expect(parseConfiguration(good, 'group.yaml')).toMatchObject({
      label: 'linotp',
      serial: undefined,
      members: [
        {
          name: 'hsm1',
          token: { serial: '0011' },
          env: { HSM_CONF: '/etc/hsm1.conf' },
          weight: 2,
          standby: false,
          lanes: 8,
        },
        { name: 'hsm2', token: { label: 'two' }, env: {}, weight: 1, standby: true },
      ],
      pin: { file: '/run/secrets/pin' },
      log: { file: '/var/log/ha.jsonl', maxSize: 1_048_576, keep: 5 },
      policy: {
        deadline: 5000,
        hangAfter: 750,
        balance: 'primary',
        hedge: true,
        attemptTimeout: 'adaptive',
        replayLimit: 524_288,
      },
    });
    expect(parseConfiguration(good, 'group.yaml').policy.verdicts).toEqual(
      new Map([
        [6, 'member'],
        [0x8000_0001, 'busy'],
      ]),
    );
  });

  // Rows: a text of the valid configuration, its replacement, and the message.
  test.each([
    ['label: linotp', 'label: 5', 'group.yaml: line 1: label: expected a string, got a number'],
    ['label: linotp\n', '', 'group.yaml: line 1: label: expected a string, got undefined'],
    ['name: hsm2', 'name: hsm1', "line 8: members[1].name: expected a unique name; another member is named 'hsm1'"],
    [
      'token: { label: two }',
      'token: { serial: "0011" }',
      "line 10: members[1].token: expected a token of its own; 'hsm1' has the same token",
    ],
    ['weight: 2', 'weigth: 2', 'members[0].weigth: unknown setting'],
    ['weight: 2', 'weight: 0', 'line 7: members[0].weight: expected a number from 0.01 to 100, got a number'],
    ['weight: 2', 'lanes: 100', 'line 7: members[0].lanes: expected an integer from 1 to 64, got a number'],
    [
      '{ serial: "0011" }',
      '{ serial: "0011", slot: 1 }',
      'line 5: members[0].token: expected exactly one of serial, label and slot',
    ],
    [
      'module: /usr/lib/libhsm.so\n    token: { serial',
      'token: { serial',
      'members[0].module: expected a string, got undefined',
    ],
    ['{ file: /run/secrets/pin }', '"1234"', 'line 12: pin: expected an object, got a string'],
    [
      '{ file: /run/secrets/pin }',
      '{}',
      'line 12: pin: expected exactly one of env, file and command; the configuration never holds the PIN itself',
    ],
    [
      'deadline: 5s',
      'deadline: soon',
      "line 14: policy.deadline: expected a duration such as '500ms', '10s' or a number of ms above 0",
    ],
    [
      'balance: primary',
      'balance: fair',
      'policy.balance: expected one of leastOutstanding, roundRobin, primary, got a string',
    ],
    [
      'CKR_FUNCTION_FAILED',
      'CKR_FUNCTION_FALIED',
      'policy.verdicts.CKR_FUNCTION_FALIED: expected the name or number of a CKR code',
    ],
    ['file: /var/log/ha.jsonl, ', '', 'line 19: log.file: expected a string, got undefined'],
    ['file: /var/log/ha.jsonl', 'file: ""', 'line 19: log.file: expected the path of a file, got a string'],
    [
      'maxSize: 1MiB',
      'maxSize: much',
      "line 19: log.maxSize: expected a size such as '512KiB', '1MiB' or a number of bytes above 0",
    ],
    ['maxSize: 1MiB', 'keep: 101', 'line 19: log.keep: expected an integer from 0 to 100, got a number'],
    ['maxSize: 1MiB', 'keep: -1', 'line 19: log.keep: expected an integer from 0 to 100, got a number'],
    ['maxSize: 1MiB', 'level: all', 'line 19: log.level: unknown setting'],
    ['policy:', 'extra: 1\npolicy:', 'extra: unknown setting'],
    ['members:', 'members: [', 'group.yaml: line'],
  ])('%s → %s: %s', (from, to, message) => {
    expect(good).toContain(from);
    let thrown: unknown;
    try {
      parseConfiguration(good.replace(from, to), 'group.yaml');
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(ConfigurationError);
    expect((thrown as Error).message).toContain(message);
  });

  test('with several errors is refused with all of them, and never with a PIN', () => {
    const written = good
      .replace('label: linotp', 'label: ""')
      .replace('{ file: /run/secrets/pin }', '{ value: "98765432" }');
    try {
      parseConfiguration(written, 'group.yaml');
    } catch (error) {
      expect((error as ConfigurationError).problems.length).toBeGreaterThanOrEqual(2);
      expect(String((error as Error).stack)).not.toContain('98765432');
      return;
    }
    throw new Error('it was taken');
  });

  test('can be an object', () => {
    const input = { label: 'x', members: [{ name: 'a', module: 'm', token: { slot: 0 } }] };
    expect(checkConfiguration(input).members).toHaveLength(1);
    expect(checkConfiguration(input).log).toBeUndefined();
    expect(checkConfiguration({ ...input, log: { file: 'ha.jsonl' } }).log?.maxSize).toBe(10 * 1024 ** 2);
    expect(() => checkConfiguration({ ...input, members: [] })).toThrow('members: expected at least one member');
    expect(() => checkConfiguration(undefined)).toThrow(ConfigurationError);
  });
});
