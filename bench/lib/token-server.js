// Token behind `p11-kit server`, which can be killed and started again like an HSM on the network.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const clients = [
  '/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so',
  '/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so',
  '/usr/lib64/pkcs11/p11-kit-client.so',
];

/** Maximum time until the server has its socket (ms). */
const START_WITHIN = 10_000;

export class TokenServer {
  #child;

  constructor({ name, module, token, env }, folder) {
    this.socket = join(folder, `${name}.p11`);
    this.module = clients.find((path) => existsSync(path));
    if (this.module === undefined) throw new Error('p11-kit-client.so is not installed (Debian: p11-kit-modules)');
    this.clientEnv = { P11_KIT_SERVER_ADDRESS: `unix:path=${this.socket}` };
    this.#command = ['server', '-f', '-n', this.socket, '-p', module, `pkcs11:serial=${token.serial}`];
    this.#env = { ...process.env, ...env };
  }

  #command;
  #env;

  /** Starts the server; resolves when its socket exists. */
  async start() {
    rmSync(this.socket, { force: true });
    this.#child = spawn('p11-kit', this.#command, { env: this.#env, stdio: 'ignore', detached: true });
    for (const until = Date.now() + START_WITHIN; !existsSync(this.socket); await pause(5)) {
      if (Date.now() > until || this.#child.exitCode !== null) throw new Error('p11-kit server did not start');
    }
  }

  /** Kills the server and its processes for connections, as a power failure would. */
  async kill() {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    process.kill(-child.pid, 'SIGKILL');
    await ended;
  }
}
