// Process that prepares and reads tokens (provision.js), one request after the other. Starting it costs more than most
// requests, so one process serves many. It ends after a while without requests, and with the process that asks.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** Time without requests after which the process ends (ms). */
const IDLE = 500;
const script = new URL('./provision.js', import.meta.url).pathname;

/** Connection to the child process; see README.md, "Tokens". */
export class Provisioner {
  #child;
  #asked = [];
  #errors = '';
  #idle;
  #ended;

  /** Starts the process; `ended` is called when the process takes no requests any more. */
  constructor(ended) {
    this.#ended = ended;
    this.#child = spawn(process.execPath, [script]);
    const { stdout, stderr, stdin } = this.#child;
    createInterface({ input: stdout }).on('line', (line) => this.#answered(JSON.parse(line)));
    stderr.setEncoding('utf8').on('data', (text) => {
      this.#errors += text;
    });
    stdin.on('error', () => undefined);
    this.#child.once('close', (code, signal) => {
      ended();
      for (const { label, reject } of this.#asked)
        reject(new Error(`provisioning ${label} failed: ${this.#errors || (signal ?? code)}`));
    });
  }

  /** Sends a request; resolves to the answer, or throws an error that names the token. */
  ask(label, request) {
    return new Promise((resolve, reject) => {
      clearTimeout(this.#idle);
      if (this.#asked.length === 0) this.#keepWaiting('ref');
      this.#asked.push({ label, resolve, reject });
      this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    });
  }

  #answered({ error, ...result }) {
    const { label, resolve, reject } = this.#asked.shift();
    if (error === undefined) resolve(result);
    else reject(new Error(`provisioning ${label} failed: ${error}`));
    if (this.#asked.length > 0) return;
    this.#keepWaiting('unref');
    this.#idle = setTimeout(() => {
      this.#ended();
      this.#child.stdin.end();
    }, IDLE).unref();
  }

  /** Keeps this process alive for the child (`ref`), or lets it end (`unref`). */
  #keepWaiting(verb) {
    for (const each of [this.#child, this.#child.stdin, this.#child.stdout, this.#child.stderr]) each[verb]();
  }
}
