// The Docker API that there is, or one that can be made reachable.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
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

const works = (command, ...args) => {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

/** Whether the kernel tells its neighbours where one of its network devices has another hardware address. */
const ARP_NOTIFY = '/proc/sys/net/ipv4/conf/all/arp_notify';

/**
 * Starts a Docker API with the program that CONTAINER_LAB names: `up` starts it, `env` tells where it is, `down` ends it.
 * Gives what ends it.
 */
function startLab(lab) {
  execFileSync(lab, ['up'], { stdio: ['ignore', 'ignore', 'inherit'] });
  // Its networks are made of rules that this program writes, and it does not bring it.
  if (!works('iptables', '--version'))
    execFileSync('apt-get', ['install', '-y', '-qq', 'iptables'], { stdio: 'ignore' });
  // Its networks are bridges, and a bridge takes another address when a container leaves it. A container that is not
  // told goes on to ask the old one for names, for up to a minute. (A Docker engine answers inside the container.)
  const notifies = readFileSync(ARP_NOTIFY);
  writeFileSync(ARP_NOTIFY, '1');
  const [, host] = /DOCKER_HOST=(\S+)/u.exec(execFileSync(lab, ['env'], { encoding: 'utf8' })) ?? [];
  process.env.DOCKER_HOST = host;
  return () => {
    execFileSync(lab, ['down'], { stdio: 'ignore' });
    writeFileSync(ARP_NOTIFY, notifies);
  };
}

/**
 * Makes a Docker API reachable; gives `{ compose, release }`, or `{ missing }` with what there is not. Where none
 * answers, the program that CONTAINER_LAB names starts one.
 */
export function findEngine() {
  let release = () => undefined;
  if (!works('docker', 'version')) {
    const lab = process.env.CONTAINER_LAB;
    if (!lab || !works(lab, 'env')) return { missing: 'no Docker API answers' };
    try {
      release = startLab(lab);
    } catch (error) {
      return { missing: `no Docker API answers, and none could be started: ${error.message}` };
    }
  }
  const compose = [['docker', 'compose'], ['docker-compose']].find(([command, ...args]) =>
    works(command, ...args, 'version'),
  );
  if (compose === undefined) {
    release();
    return { missing: 'neither docker compose nor docker-compose is there' };
  }
  return { compose, release };
}
