// Folder with a node_modules in which this package stands in the place of pkcs11js, as npm's overrides would put it.
// Libraries that are written against pkcs11js run in it unchanged.
import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Limit of a program (ms): below its test's time-out, so that the error can show the program's output. */
const LONGEST = 50_000;

/** Name of the group's log in that folder. */
export const HA_LOG = 'ha.log';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Fills a folder with links to this package and to all others. */
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

/** Runs a program in such a folder, with `request` on its standard input; returns the lines of its output. */
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
