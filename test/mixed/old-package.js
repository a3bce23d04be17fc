// Package of a former version, built from its commit in a temporary folder. The former version's dependencies are those
// of this version: both have the same package-lock.json.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Maximum size of a commit's archive (bytes). */
const ARCHIVE_LIMIT = 256 * 1024 * 1024;

/** Runs a program; throws with its output if it fails. */
function run(program, args, options) {
  try {
    return execFileSync(program, args, { stdio: ['pipe', 'pipe', 'pipe'], maxBuffer: ARCHIVE_LIMIT, ...options });
  } catch (error) {
    const output = `${error.stdout ?? ''}${error.stderr ?? ''}`.trim();
    throw new Error(`${program} ${args.join(' ')} failed: ${output || error.message}`);
  }
}

/** Takes a commit's files out of git into a new folder; `remove` deletes the folder. */
export function checkOut(commit) {
  const path = mkdtempSync(join(tmpdir(), 'pkcs11-ha-former-'));
  const remove = () => rmSync(path, { recursive: true, force: true });
  try {
    run('tar', ['x', '-C', path], { input: run('git', ['archive', commit], { cwd: root }) });
    symlinkSync(join(root, 'node_modules'), join(path, 'node_modules'));
  } catch (error) {
    remove();
    throw error;
  }
  return { path, remove };
}

/** Builds the native parts and the TypeScript of a package. */
export function buildPackage(path) {
  for (const script of ['build:native', 'build:ts']) run('npm', ['run', '--silent', script], { cwd: path });
}
