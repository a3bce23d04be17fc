import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll } from '@jest/globals';

/** Path of the built program. */
export const program: string = fileURLToPath(new URL('../../dist/bin/pkcs11-ha.js', import.meta.url));

/** Result of a program that has ended. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Surroundings of a program. */
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Command that runs the program, as `sh -c '… exec "$@"' sh`. */
  readonly under?: readonly string[];
}

/** Runs pkcs11-ha to its end, without a terminal, as a script does. */
export async function run(args: readonly string[], { cwd, env = {}, under = [] }: RunOptions = {}): Promise<Ended> {
  const [command = '', ...rest] = [...under, process.execPath, program, ...args];
  const child = spawn(command, rest, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

/** Removes colours and movements of a terminal from a text. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a terminal obeys
  return text.replaceAll(/\u001b(?:\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78])|\r/gu, '');
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** Terminals that have not ended. */
const terminals = new Set<ChildProcess>();
// Ends the terminals of tests that have failed: jest waits for them.
afterAll(() => {
  for (const child of terminals) child.kill('SIGKILL');
});

/** Terminal that runs pkcs11-ha with some arguments, or a line of a shell. */
export class Terminal {
  readonly #child: ChildProcess;
  readonly ended: Promise<number | null>;
  #seen = '';
  #wakers: (() => void)[] = [];

  constructor(command: readonly string[] | string, { cwd, env = {} }: RunOptions = {}) {
    const line =
      typeof command === 'string'
        ? command
        : [process.execPath, program, ...command].map((each) => quoted(each)).join(' ');
    this.#child = spawn('script', ['-qefc', `stty cols 160 rows 50; exec ${line}`, '/dev/null'], {
      cwd,
      env: { ...process.env, TERM: 'xterm', ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#seen += text;
      for (const wake of this.#wakers.splice(0)) wake();
    });
    const child = this.#child;
    terminals.add(child);
    this.ended = once(child, 'close').then(([code]) => {
      terminals.delete(child);
      for (const wake of this.#wakers.splice(0)) wake();
      return code as number | null;
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Text that the terminal has shown so far. */
  get text(): string {
    return plain(this.#seen);
  }

  /** Waits until the text that the terminal has shown matches; throws when the program ends or time is over. */
  async until(wanted: RegExp, within = 30_000): Promise<void> {
    const patience = Date.now() + within;
    while (!wanted.test(this.text)) {
      if (this.#child.exitCode !== null || Date.now() > patience)
        throw new Error(`${wanted} was not shown:\n${this.text}`);
      await Promise.race([
        new Promise<void>((resolve) => this.#wakers.push(resolve)),
        new Promise<void>((resolve) => setTimeout(resolve, 100).unref()),
      ]);
    }
  }

  /** Types a text. */
  type(text: string): void {
    this.#child.stdin?.write(text);
  }
}
