import { randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return '';
  }
}

/** When a process started, in ticks since the machine did; with its number that names it. Empty when it is gone. */
function startOf(pid: number | string): string {
  const stat = read(`/proc/${pid}/stat`);
  // The name, in brackets, may hold anything; the 22nd field counts from after it (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const isThere = stat !== '' && fields[0] !== 'Z' && fields[0] !== 'X';
  return isThere ? (fields[19] ?? '') : '';
}

function isZombie(pid: string): boolean {
  return /^State:\s+[ZX]/mu.test(read(`/proc/${pid}/status`));
}

/** The machine since its last start, and the processes that see each other's numbers there. */
function surroundings(): string {
  const boot = read('/proc/sys/kernel/random/boot_id').replaceAll('-', '');
  let namespace = '';
  try {
    namespace = /\d+/u.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '';
  } catch {
    // Without it nobody can tell from elsewhere whether this process is gone.
  }
  return `${boot}:${namespace}`;
}

const here = surroundings();

/** Names one open group of this process in the records that it writes. */
export function makeWriter(): string {
  return [here, process.pid, startOf('self'), randomBytes(6).toString('hex')].join(':');
}

/** Whether the process of a writer has ended; undefined when it is another machine's or container's. */
export function isWriterGone(writer: string): boolean | undefined {
  const [boot = '', namespace = '', pid = '', start = ''] = writer.split(':');
  if (boot === '' || namespace === '' || start === '' || `${boot}:${namespace}` !== here) return undefined;
  const now = startOf(pid);
  if (now !== '') return now !== start;
  // Another user's process may be hidden; only one that does not exist is gone for certain.
  try {
    process.kill(Number(pid), 0);
    return isZombie(pid) ? true : undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH' ? true : undefined;
  }
}
