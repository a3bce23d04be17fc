// Processor time of processes (s): the sum of all their threads, as counted by the kernel's scheduler.
import { readdirSync, readFileSync } from 'node:fs';

/** Returns the processor time of a running process (s), or 0 if the process has ended. */
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

/** Starts a measurement of this process and others; returns a function that gives the processor time used since (s). */
export function stopwatch(pids = []) {
  const used = () => [process.pid, ...pids].reduce((sum, pid) => sum + timeOf(pid), 0);
  const before = used();
  return () => used() - before;
}

/** Returns the ids of this process's hosts, for APIs that do not report them. */
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
