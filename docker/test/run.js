// Commands that run to their end.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/** Maximum time of a command (ms). */
const LONGEST = 15 * 60_000;

/**
 * Runs a command and returns its output; throws if the command fails. With `code: true` returns `{ code, output, errors
 * }` instead, and does not throw.
 */
export async function run(command, args, { input = '', code: wantsCode = false, env = {} } = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, timeout: LONGEST });
  child.stdin.on('error', () => undefined).end(input);
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  if (wantsCode) return { code, output, errors };
  if (code !== 0)
    throw new Error(`${command} ${args.slice(0, 3).join(' ')} ended with ${code}\n${errors.slice(-4000)}`);
  return output;
}

/** Returns true if a command can be run and succeeds. */
export function works(command, ...args) {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
