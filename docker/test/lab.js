// Docker API (podman's) of the program named by CONTAINER_LAB: `up` starts the API, `env` prints its address, `down`
// ends it.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { works } from './run.js';

/** Setting of the kernel: 1 announces a network device's new hardware address to its neighbours. */
const ARP_NOTIFY = '/proc/sys/net/ipv4/conf/all/arp_notify';

export class Lab {
  #program;
  #socket;
  #notifies;

  /** Starts the API, and sets DOCKER_HOST. */
  constructor(program) {
    this.#program = program;
    execFileSync(program, ['up'], { stdio: ['ignore', 'ignore', 'inherit'] });
    // podman needs iptables for its networks and does not bring it.
    if (!works('iptables', '--version'))
      execFileSync('apt-get', ['install', '-y', '-qq', 'iptables'], { stdio: 'ignore' });
    // podman's networks are bridges, and a bridge's hardware address changes when a container leaves. Without an
    // announcement a container sends name lookups to the old address for up to a minute. (A Docker engine answers name
    // lookups inside the container.)
    this.#notifies = readFileSync(ARP_NOTIFY);
    writeFileSync(ARP_NOTIFY, '1');
    [, this.#socket] = /DOCKER_HOST=unix:\/\/(\S+)/u.exec(execFileSync(program, ['env'], { encoding: 'utf8' })) ?? [];
    process.env.DOCKER_HOST = `unix://${this.#socket}`;
  }

  release() {
    execFileSync(this.#program, ['down'], { stdio: 'ignore' });
    writeFileSync(ARP_NOTIFY, this.#notifies);
  }

  /**
   * Builds an image without intermediate layers: this API would copy the whole image for each step of the Dockerfile.
   */
  async build(tag, context, dockerfile) {
    const query = new URLSearchParams({ t: tag, dockerfile, networkmode: 'host', layers: '0', rm: '1', forcerm: '1' });
    const asking = request({
      socketPath: this.#socket,
      method: 'POST',
      path: `/v1.41/build?${query}`,
      headers: { 'content-type': 'application/x-tar' },
    });
    const answered = new Promise((resolve, reject) => asking.once('response', resolve).once('error', reject));
    const ignored = join(context, '.dockerignore');
    const without = existsSync(ignored) ? ['--anchored', `--exclude-from=${ignored}`] : [];
    const tar = spawn('tar', ['-C', context, ...without, '-c', ...readdirSync(context)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    tar.stdout.pipe(asking);
    const output = await text(await answered);
    if (/^\{"error/mu.test(output) || !output.includes('Successfully tagged'))
      throw new Error(`${tag}: ${output.slice(-4000)}`);
  }
}
