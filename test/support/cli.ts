import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export const program: string = fileURLToPath(new URL('../../dist/bin/pkcs11-ha.js', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Runs it under this: `sh -c '… exec "$@"' sh`. */
  readonly under?: readonly string[];
}

/** Runs pkcs11-ha as a script would, to its end. */
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

/** What a terminal would show of it as text, without colours and movements. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a terminal obeys
  return text.replaceAll(/\u001b(?:\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78])|\r/gu, '');
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** pkcs11-ha, or a line for bash, in a terminal of its own. */
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
    this.ended = once(this.#child, 'close').then(([code]) => {
      for (const wake of this.#wakers.splice(0)) wake();
      return code as number | null;
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** All that was shown so far. */
  get text(): string {
    return plain(this.#seen);
  }

  /** Waits until something is shown that was not yet when it was last waited for. */
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

  type(text: string): void {
    this.#child.stdin?.write(text);
  }
}
