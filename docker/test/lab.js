// A Docker API that the program named by CONTAINER_LAB starts: podman's. `up` starts it, `env` tells where it is, `down` ends it.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { works } from './run.js';

/** Whether the kernel tells its neighbours where one of its network devices has another hardware address. */
const ARP_NOTIFY = '/proc/sys/net/ipv4/conf/all/arp_notify';

export class Lab {
  #program;
  #socket;
  #notifies;

  /** Starts the API, and sets DOCKER_HOST. */
  constructor(program) {
    this.#program = program;
    execFileSync(program, ['up'], { stdio: ['ignore', 'ignore', 'inherit'] });
    // Its networks are made of rules that this program writes, and it does not bring it.
    if (!works('iptables', '--version'))
      execFileSync('apt-get', ['install', '-y', '-qq', 'iptables'], { stdio: 'ignore' });
    // Its networks are bridges, and a bridge takes another address when a container leaves it. A container that is not
    // told goes on to ask the old one for names, for up to a minute. (A Docker engine answers inside the container.)
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
   * `docker build`, but that no step is kept: this API copies all of an image for each, and a Dockerfile's steps would take
   * most of the time.
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
    const told = await text(await answered);
    if (/^\{"error/mu.test(told) || !told.includes('Successfully tagged'))
      throw new Error(`${tag}: ${told.slice(-4000)}`);
  }
}
