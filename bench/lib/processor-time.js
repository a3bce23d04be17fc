// The processor time that processes have used, in seconds: of all their threads, from what the scheduler counted.
import { readdirSync, readFileSync } from 'node:fs';

/** Of one process while it lives; 0 for one that has gone. */
function timeOf(pid) {
  try {
    let nanoseconds = 0;
    for (const thread of readdirSync(`/proc/${pid}/task`))
      nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
    return nanoseconds / 1e9;
  } catch {
    return 0;
  }
}

/** Of this process and of others: gives a function that tells how much has been used since. */
export function stopwatch(pids = []) {
  const used = () => [process.pid, ...pids].reduce((sum, pid) => sum + timeOf(pid), 0);
  const before = used();
  return () => used() - before;
}

/** The host processes of this process: for faces that do not tell which they are. */
export function childHosts() {
  const children = readdirSync('/proc').filter((name) => {
    try {
      const [, parent] = /\) \S+ (\d+)/u.exec(readFileSync(`/proc/${name}/stat`, 'utf8')) ?? [];
      return Number(parent) === process.pid && readFileSync(`/proc/${name}/comm`, 'utf8').startsWith('pkcs11-ha-host');
    } catch {
      return false;
    }
  });
  return children.map(Number);
}
