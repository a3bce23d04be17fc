import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { within } from './waiting.js';

/** Command that runs a program in PID, network and mount namespaces of its own. */
const UNSHARE = ['unshare', '-n', '-p', '-f', '--mount-proc', '--kill-child'] as const;

/** Reason for which this machine makes no namespaces; undefined if it does. */
export function namespaceProblem(): string | undefined {
  const [command = '', ...args] = UNSHARE;
  const { error, status, stderr } = spawnSync(command, [...args, 'true'], { encoding: 'utf8' });
  return error?.message ?? (status === 0 ? undefined : stderr.trim());
}

interface Surroundings {
  /** True if the program runs in namespaces of its own. */
  readonly isFar?: boolean;
  /** User and group of the program. */
  readonly user?: number;
  readonly env?: NodeJS.ProcessEnv;
}

const revive = (_: string, value: unknown): unknown =>
  (value as { type?: unknown } | null)?.type === 'Buffer' ? Buffer.from((value as { data: number[] }).data) : value;

/** Passes on what a program prints, except for the complaint of unshare when its program was killed. */
function pass(stderr: NodeJS.ReadableStream): void {
  createInterface({ input: stderr }).on('line', (line) => {
    if (!line.startsWith('unshare: sigprocmask')) process.stderr.write(`${line}\n`);
  });
}

/** Program of test/support/programs that answers commands; see commands.js there. */
export class CommandedProgram<Ready> {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #answers: AsyncIterator<string>;
  readonly #name: string;
  readonly #isFar: boolean;
  /** Message of the program when it was ready. */
  readonly ready: Promise<Ready>;

  constructor(name: string, args: readonly string[], { isFar = false, user, env = process.env }: Surroundings = {}) {
    this.#name = name;
    this.#isFar = isFar;
    const path = fileURLToPath(new URL(`programs/${name}.js`, import.meta.url));
    const [command = '', ...rest] = [...(isFar ? UNSHARE : []), process.execPath, path, ...args];
    const options: SpawnOptions = { stdio: ['pipe', 'pipe', isFar ? 'pipe' : 'inherit'], env };
    this.#child = spawn(command, rest, user === undefined ? options : { ...options, uid: user, gid: user });
    if (this.#child.stderr !== null) pass(this.#child.stderr);
    this.#ended = once(this.#child, 'exit');
    this.#answers = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
    this.ready = this.#answer('is ready') as Promise<Ready>;
  }

  /** Process id of the program, in the namespace of the test. */
  get pid(): number {
    const pid = this.#child.pid ?? 0;
    if (!this.#isFar) return pid;
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim());
  }

  /** Process ids of the program's hosts. */
  get hosts(): readonly number[] {
    const children = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'latin1').trim();
    return children === '' ? [] : children.split(' ').map(Number);
  }

  /** Gives a command, and returns its value; throws its error. Commands are answered in order. */
  ask(command: string, ...values: readonly unknown[]): Promise<unknown> {
    this.#child.stdin?.write(`${JSON.stringify({ command, arguments: values })}\n`);
    return this.#answer(`answers ${command}`);
  }

  async #answer(what: string): Promise<unknown> {
    const { value: line } = await within(this.#answers.next(), () => `the program ${this.#name} ${what}`);
    if (line === undefined) throw new Error(`the program ${this.#name} has ended before it ${what}`);
    const { value, error } = JSON.parse(line, revive) as { value?: unknown; error?: string };
    if (error !== undefined) throw new Error(error);
    return value;
  }

  /** Kills the program. */
  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) process.kill(this.pid, 'SIGKILL');
    await this.#ended;
  }

  /** Ends the program's input, and waits until the program has ended. */
  async end(): Promise<void> {
    this.#child.stdin?.end();
    await within(this.#ended, () => `the program ${this.#name} ends`);
  }
}
