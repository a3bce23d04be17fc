import { randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return '';
  }
}

/** Reads the start time of a process (ticks since boot), which identifies it together with its pid. Empty if gone. */
function startOf(pid: number | string): string {
  const stat = read(`/proc/${pid}/stat`);
  // Skips the name in brackets, which may hold anything; the start time is the 22nd field (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const isThere = stat !== '' && fields[0] !== 'Z' && fields[0] !== 'X';
  return isThere ? (fields[19] ?? '') : '';
}

function isZombie(pid: string): boolean {
  return /^State:\s+[ZX]/mu.test(read(`/proc/${pid}/status`));
}

/** Names the machine's current boot and the process's PID namespace. */
function surroundings(): string {
  const boot = read('/proc/sys/kernel/random/boot_id').replaceAll('-', '');
  let namespace = '';
  try {
    namespace = /\d+/u.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '';
  } catch {
    // Without a namespace, other processes cannot tell whether this process is gone.
  }
  return `${boot}:${namespace}`;
}

const here = surroundings();

/** Makes the name by which records identify one open group of this process. */
export function makeWriter(): string {
  return [here, process.pid, startOf('self'), randomBytes(6).toString('hex')].join(':');
}

/** Tells whether a writer's process has ended; undefined if it runs on another machine or in another container. */
export function isWriterGone(writer: string): boolean | undefined {
  const [boot = '', namespace = '', pid = '', start = ''] = writer.split(':');
  if (boot === '' || namespace === '' || start === '' || `${boot}:${namespace}` !== here) return undefined;
  const now = startOf(pid);
  if (now !== '') return now !== start;
  // Asks the kernel too: /proc may hide another user's process.
  try {
    process.kill(Number(pid), 0);
    return isZombie(pid) ? true : undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH' ? true : undefined;
  }
}
