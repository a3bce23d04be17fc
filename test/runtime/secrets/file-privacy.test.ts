import { chmodSync, existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { readConfiguration } from '../../../src/runtime/groups/configuration-source.js';
import { LogFile } from '../../../src/runtime/log/log-file.js';
import { fetchPin, readPin } from '../../../src/runtime/secrets/pin.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pkcs11-ha-privacy-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Writes a file of a mode; returns its path. */
function fileOf(name: string, text: string, mode: number): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

test('a PIN file that every user can write is refused', async () => {
  const file = fileOf('pin', '123456\n', 0o622);
  await expect(fetchPin({ file })).rejects.toThrow(`pin.file: ${file} can be written by every user of this machine`);
  expect(() => readPin({ file })).toThrow(/can be written by every user/u);
});

test('a PIN file that every user can read brings a warning that does not hold the PIN', async () => {
  const file = fileOf('pin', '123456\n', 0o644);
  const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  try {
    for (let i = 0; i < 2; i += 1) (await fetchPin({ file })).wipe();
    expect(warn.mock.calls.map(([text]) => text)).toEqual([
      `${file} can be read by every user of this machine: \`chmod o-r ${file}\``,
    ]);
  } finally {
    warn.mockRestore();
  }
});

test('a configuration that every user can write is refused', () => {
  const text = 'label: x\nmembers: [{ name: a, module: /lib.so, token: { slot: 0 } }]\n';
  expect(readConfiguration(fileOf('good.yaml', text, 0o664)).label).toBe('x');
  expect(() => readConfiguration(fileOf('bad.yaml', text, 0o666))).toThrow(
    /bad\.yaml can be written by every user of this machine: `chmod o-w /u,
  );
});

test('a log is not written through a link', () => {
  const target = join(folder, 'target');
  symlinkSync(target, join(folder, 'log'));
  const log = new LogFile({ file: join(folder, 'log'), maxSize: 1000, keep: 0 }, () => undefined);
  expect(() => log.append('line\n')).toThrow(/ELOOP/u);
  expect(existsSync(target)).toBe(false);
});
