import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { until } from './waiting.js';

const program = fileURLToPath(new URL('./program.js', import.meta.url));

/** Makes Buffers of the objects that JSON.stringify makes of them. */
const revive = (_key, value) => (value?.type === 'Buffer' ? Buffer.from(value.data) : value);

/** Application in a process of its own, with a virtual token. `version` is its name in messages. */
export class Application {
  #child;
  #asked = new Map();
  #count = 0;
  #ended;
  #hasEnded = false;

  constructor(version, folder, env) {
    this.version = version;
    this.#child = spawn(process.execPath, [program, folder], { env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#ended = once(this.#child, 'close').then(() => this.#onEnd());
    // Ignores EPIPE: the end of the process rejects the requests.
    this.#child.stdin.on('error', () => undefined);
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#onAnswer(JSON.parse(line, revive)));
  }

  get hasEnded() {
    return this.#hasEnded;
  }

  /** Runs a method of the virtual token; rejects with its error, or with a ProcessEnded if the process ends first. */
  ask(call, ...args) {
    if (this.#hasEnded) return Promise.reject(this.#endOf(call));
    return new Promise((resolve, reject) => {
      this.#count += 1;
      this.#asked.set(this.#count, { call, resolve, reject });
      this.#child.stdin.write(`${JSON.stringify({ id: this.#count, call, args })}\n`);
    });
  }

  #onAnswer({ id, result, error }) {
    const { call, resolve, reject } = this.#asked.get(id);
    this.#asked.delete(id);
    if (error === undefined) return resolve(result);
    const failure = new Error(`${this.version} ${call}: ${error.message}`);
    return reject(Object.assign(failure, { code: error.code, kind: error.name, operation: error.operation }));
  }

  #endOf(call) {
    return Object.assign(new Error(`${call}: the ${this.version} process has ended`), { kind: 'ProcessEnded' });
  }

  #onEnd() {
    this.#hasEnded = true;
    for (const { call, reject } of this.#asked.values()) reject(this.#endOf(call));
    this.#asked.clear();
  }

  /** Waits until members are in a state. */
  async untilState(names, state) {
    let members = [];
    const isThere = async () => {
      ({ members } = await this.ask('status'));
      return names.every((name) => members.some((member) => member.name === name && member.state === state));
    };
    const told = () => members.map(({ name, state: now, reason }) => `${name} ${now} (${reason})`).join(', ');
    await until(isThere, () => `${names} are ${state} in the ${this.version} process: ${told()}`);
  }

  /** Returns the process id of a member's host; undefined if the member has none. */
  async hostOf(name) {
    const { members } = await this.ask('status');
    return members.find((member) => member.name === name)?.pid;
  }

  /** Ends the process's hosts of a member. */
  async killHost(name) {
    const pid = await this.hostOf(name);
    try {
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
  }

  /** Closes the token and ends the process. */
  async end() {
    if (!this.#hasEnded) await this.ask('close').catch(() => undefined);
    this.#child.stdin.end();
    await this.#ended;
  }

  /** Sends the process a signal; does nothing if it has ended. */
  signal(name) {
    this.#child.kill(name);
  }

  /** Kills the process. */
  async kill() {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
