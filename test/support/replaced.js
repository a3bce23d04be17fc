// A folder in which pkcs11js is this package, as npm's overrides would have it, and all other packages are as they are:
// libraries that are written against pkcs11js run in it unchanged.
import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

// In milliseconds: a program that hangs is ended, and what it came to is told, before its test's time is over.
const LONGEST = 50_000;

/** The file of the group's log in that folder. */
export const HA_LOG = 'ha.log';

const root = fileURLToPath(new URL('../../', import.meta.url));

export function makeReplaced(folder) {
  const modules = join(folder, 'node_modules');
  mkdirSync(modules);
  for (const name of readdirSync(join(root, 'node_modules'))) {
    if (name !== 'pkcs11js' && !name.startsWith('.'))
      symlinkSync(join(root, 'node_modules', name), join(modules, name));
  }
  symlinkSync(root, join(modules, 'pkcs11js'));
  copyFileSync(join(root, 'test/support/programs/rounds.cjs'), join(folder, 'rounds.cjs'));
}

/** Runs one of the programs in such a folder, with `request` on its standard input; gives what it has printed. */
export async function runReplaced(folder, program, request, env) {
  const file = join(folder, basename(program));
  copyFileSync(program, file);
  const child = spawn(process.execPath, ['--preserve-symlinks', '--preserve-symlinks-main', file], {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: LONGEST,
    killSignal: 'SIGKILL',
  });
  const [out, problems] = [[], []];
  child.stdout.on('data', (chunk) => out.push(chunk));
  child.stderr.on('data', (chunk) => problems.push(chunk));
  child.stdin.end(JSON.stringify(request));
  const [code, signal] = await new Promise((resolve) => child.once('close', (...how) => resolve(how)));
  const lines = Buffer.concat(out).toString().trim().split('\n');
  if (code !== 0) {
    const last = `after ${JSON.stringify(lines.at(-1))}`;
    const log = readFileSync(join(folder, HA_LOG), 'utf8').trim().split('\n').slice(-30).join('\n');
    throw new Error(`${basename(program)} ended with ${code ?? signal} ${last}: ${Buffer.concat(problems)}\n${log}`);
  }
  return lines;
}
