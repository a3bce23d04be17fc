// Commands, run to their end.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

const LONGEST = 15 * 60_000;

/**
 * Runs a command and gives what it printed. With `code: true` it gives `{ code, output, errors }` instead and does not
 * throw where the command fails.
 */
export async function run(command, args, { input = '', code: wantsCode = false, env = {} } = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, timeout: LONGEST });
  child.stdin.on('error', () => undefined).end(input);
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  if (wantsCode) return { code, output, errors };
  if (code !== 0) throw new Error(`${command} ${args.slice(0, 3).join(' ')}: ${code}\n${errors.slice(-4000)}`);
  return output;
}

/** Whether a command can be run and ends well. */
export function works(command, ...args) {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
