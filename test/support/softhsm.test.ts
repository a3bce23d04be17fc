import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Hsm, makeFolder, makeHsm, readToken } from './softhsm.js';

const folder = makeFolder('reading');
let hsm: Hsm;
beforeAll(async () => {
  hsm = await makeHsm(folder.path, 'read', { objects: [{ CLASS: 0, TOKEN: true, PRIVATE: true, LABEL: 'data' }] });
});
afterAll(() => folder.remove());

/** Returns the path of the file with the token's label, PINs and flags. */
function tokenFile(): string {
  const [token] = readdirSync(hsm.directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return join(hsm.directory, token?.name ?? '', 'token.object');
}

describe('reading a token', () => {
  test('is repeated while another process has the token half written', async () => {
    const whole = readFileSync(tokenFile());
    truncateSync(tokenFile(), whole.length / 2);
    let isWhole = false;
    const timer = setTimeout(() => {
      isWhole = true;
      writeFileSync(tokenFile(), whole);
    }, 150);
    try {
      expect((await readToken(hsm)).map(({ label }) => label)).toEqual(['data']);
      expect(isWhole).toBe(true);
    } finally {
      clearTimeout(timer);
      writeFileSync(tokenFile(), whole);
    }
  });

  test('fails at once with a wrong PIN', async () => {
    await expect(readToken({ ...hsm, pin: '111111' })).rejects.toThrow(
      /provisioning read failed: .*CKR_PIN_INCORRECT/u,
    );
  });

  test('fails after its limit with a clear error if the token stays unreadable', async () => {
    const whole = readFileSync(tokenFile());
    truncateSync(tokenFile(), whole.length / 2);
    await expect(readToken(hsm)).rejects.toThrow(/the token could not be read in 5 s, \d+ tries/u);
    writeFileSync(tokenFile(), whole);
  });
});
