import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { describe, expect, test } from '@jest/globals';

const addonPath = createRequire(import.meta.url).resolve('../../build/Release/pkcs11_ha.node');

/** Runs a script in a process of its own, which prints JSON; `addon` is the native addon there. */
function run(script: string, env: Record<string, string>): unknown {
  const whole = `const addon = require(${JSON.stringify(addonPath)}); const { Secret } = addon;
    const read = (name, erases = true) => Secret.fromEnvironment(name, erases)?.copy().toString() ?? null; ${script}`;
  return JSON.parse(
    execFileSync(process.execPath, ['-e', whole], { env: { ...process.env, ...env }, encoding: 'utf8' }),
  );
}

describe('a secret from an environment variable', () => {
  test('is erased where the process got it, for /proc too, and can be read again', () => {
    const script = `const first = read('GIVEN');
      const block = require('node:fs').readFileSync('/proc/self/environ', 'latin1');
      console.log(JSON.stringify([first, process.env.GIVEN, read('GIVEN'), block.includes('12345678')]));`;
    expect(run(script, { GIVEN: '12345678\nmore' })).toEqual(['12345678', '', '12345678', false]);
  });

  test('stays in a variable that the program has set itself, and a new value counts', () => {
    const script = `process.env.OWN = '1111'; const first = read('OWN'); const kept = process.env.OWN;
      process.env.OWN = '2222'; const second = read('OWN'); delete process.env.OWN;
      console.log(JSON.stringify([first, kept, second, read('OWN')]));`;
    expect(run(script, {})).toEqual(['1111', '1111', '2222', null]);
  });

  test('stays in the variable if it is not to be erased', () => {
    const script = `console.log(JSON.stringify([read('GIVEN', false), process.env.GIVEN]));`;
    expect(run(script, { GIVEN: '12345678' })).toEqual(['12345678', '12345678']);
  });

  test('is none if the variable is not set or empty', () => {
    expect(run(`console.log(JSON.stringify([read('NONE'), read('EMPTY')]));`, { EMPTY: '' })).toEqual([null, null]);
  });
});
