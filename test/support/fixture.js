// Groups that former versions made: their tokens as archives in test/fixtures, and descriptions of what they have.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hsmIn } from './softhsm.js';

const fixtures = fileURLToPath(new URL('../fixtures/', import.meta.url));

/** Reads the description of a fixture. */
export function readFixture(name) {
  return JSON.parse(readFileSync(join(fixtures, `${name}.json`), 'utf8'));
}

/** Makes the objects' lock files, which the archive lacks: without one SoftHSM's C_DestroyObject fails. */
function addLockFiles(directory) {
  for (const path of readdirSync(directory, { recursive: true }))
    if (path.endsWith('.object')) writeFileSync(join(directory, path.replace(/object$/u, 'lock')), '');
}

/** Unpacks the tokens of a fixture into a folder; returns them. */
export function unpackFixture(name, folder) {
  const { pin, soPin, tokens } = readFixture(name);
  execFileSync('tar', ['xzf', join(fixtures, `${name}.tar.gz`), '-C', folder]);
  return tokens.map(({ label, serial }) => {
    const directory = join(folder, label);
    addLockFiles(directory);
    return hsmIn(directory, { label, serial, pin, soPin });
  });
}
