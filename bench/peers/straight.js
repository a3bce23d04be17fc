// C program with threads, directly on the token's library: the upper limit of one process.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { compile } from '../../test/support/compile.js';
import { classOf } from '../lib/operations.js';

const numberOf = { sign: 0, encrypt: 1, random: 2, digest: 3 };

/** Contestants with 1 and 2 threads. */
export function straightContestants({ module, env }, pin, operation) {
  const program = compile(fileURLToPath(new URL('./straight.c', import.meta.url)), 'straight', ['-O2']);
  const { verb, key = '-', mechanism = 0, data = Buffer.alloc(0), parameter } = operation;
  const kind = parameter === undefined ? 'none' : Buffer.isBuffer(parameter) ? 'iv' : 'gcm';
  const what = [numberOf[verb], key, classOf(operation), mechanism, kind, data.length].map(String);
  return [1, 2].map((threads) => ({
    name: `C, ${threads} thread${threads === 1 ? '' : 's'}`,
    round: (seconds) => run(program, [module, String(threads), String(seconds), ...what], env, pin),
  }));
}

/** Runs the program with the PIN on its standard input; the program prints operations, seconds and processor time. */
function run(program, parameters, env, pin) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      const [count, took, processor] = text.trim().split(' ').map(Number);
      if (code === 0) resolve({ operations: count, seconds: took, processor });
      else reject(new Error(`${program} ended with exit code ${code}`));
    });
    child.stdin.end(pin);
  });
}
