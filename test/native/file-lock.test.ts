import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { addon, hostExecutable } from '../../src/runtime/hosts/addon.js';
import { makeFolder } from '../support/softhsm.js';
import { within } from '../support/waiting.js';

const HOUR = 3_600_000;

const folder = makeFolder('locks');
const path = join(folder.path, 'locked');
const descriptors: number[] = [];
let file: number;

/** Opens the file once more, with an open file description of its own. */
const open = (flags = 'r+'): number => {
  const descriptor = openSync(path, flags);
  descriptors.push(descriptor);
  return descriptor;
};
const close = (descriptor: number): void => {
  descriptors.splice(descriptors.indexOf(descriptor), 1);
  closeSync(descriptor);
};

beforeEach(() => {
  writeFileSync(path, Buffer.alloc(16));
  file = open();
});
afterEach(() => {
  for (const descriptor of descriptors.splice(0)) closeSync(descriptor);
});
afterAll(() => folder.remove());

describe('a lock on a byte of a file', () => {
  test('excludes other open file descriptions of that byte, and no other byte', () => {
    const other = open();
    expect(addon.lockByte(file, 0, true)).toBe(true);
    expect(addon.lockByte(file, 0, true)).toBe(true);
    expect(addon.lockByte(other, 0, true)).toBe(false);
    expect(addon.lockByte(other, 0, false)).toBe(false);
    expect(addon.lockByte(other, 1, true)).toBe(true);
    expect(addon.lockByte(other, 2 ** 40, true)).toBe(true);
    close(file);
    expect(addon.lockByte(other, 0, true)).toBe(true);
  });

  test('that is shared excludes exclusive locks only', () => {
    const [second, third] = [open(), open('r')];
    expect([file, second, third].map((descriptor) => addon.lockByte(descriptor, 0, false))).toEqual([true, true, true]);
    expect(addon.lockByte(file, 0, true)).toBe(false);
    close(second);
    close(third);
    expect(addon.lockByte(file, 0, true)).toBe(true);
  });

  test('is seen by other open file descriptions only', () => {
    const reader = open('r');
    expect(addon.isByteLocked(reader, 0)).toBe(false);
    for (const exclusive of [false, true]) {
      addon.lockByte(file, 0, exclusive);
      expect([file, reader].map((descriptor) => addon.isByteLocked(descriptor, 0))).toEqual([false, true]);
    }
    expect(addon.isByteLocked(reader, 1)).toBe(false);
  });

  test('ends with its process', async () => {
    const program = `
      const { lockByte } = require(${JSON.stringify(join(dirname(hostExecutable), 'pkcs11_ha.node'))});
      process.stdout.write(String(lockByte(require('node:fs').openSync(${JSON.stringify(path)}, 'r+'), 0, true)));
      setInterval(() => {}, ${HOUR});`;
    const child = spawn(process.execPath, ['-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: process.env,
    });
    const ended = once(child, 'exit');
    try {
      const [told] = await within(once(child.stdout, 'data'), () => 'the process takes the lock');
      expect(String(told)).toBe('true');
      expect(addon.lockByte(file, 0, true)).toBe(false);
      expect(addon.isByteLocked(file, 0)).toBe(true);
    } finally {
      child.kill('SIGKILL');
      await ended;
    }
    expect(addon.lockByte(file, 0, true)).toBe(true);
  });

  test('is refused for arguments that are none, and for descriptors that allow none', () => {
    expect(() => addon.lockByte('1' as never, 0, true)).toThrow('lockByte(descriptor: number');
    expect(() => addon.lockByte(file, 0, 1 as never)).toThrow('lockByte(descriptor: number');
    expect(() => addon.lockByte(file, -1, true)).toThrow('byte: expected 0 or more');
    expect(() => addon.lockByte(-1, 0, true)).toThrow('fcntl: Bad file descriptor');
    expect(() => addon.lockByte(open('r'), 0, true)).toThrow('fcntl: Bad file descriptor');
    expect(() => addon.isByteLocked(file, '0' as never)).toThrow('isByteLocked(descriptor: number');
    expect(() => addon.isByteLocked(-1, 0)).toThrow('fcntl: Bad file descriptor');
  });
});
