// Memory of 10,000 sessions on the virtual slot, which take no session on any member.
import { readFileSync } from 'node:fs';
import pkcs11js from 'pkcs11js';
import { Bed } from '../lib/bed.js';
import { childHosts } from '../lib/processor-time.js';
import { rounded } from '../lib/statistics.js';
import { openFace } from '../peers/ours.js';

export const title = 'Memory of 10,000 sessions on the virtual slot';
const SESSIONS = 10_000;
const MIB = 1024 ** 2;

/** Returns a process's own memory (bytes), without pages shared with other processes. */
function ownMemory(pid) {
  const [, resident, shared] = readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ').map(Number);
  return (resident - shared) * 4096;
}

export async function run() {
  const bed = await Bed.softhsm('memory', 2);
  try {
    const { library, slot } = openFace(bed.file(), bed.pin);
    const hosts = childHosts();
    const now = () => {
      globalThis.gc?.();
      return { own: ownMemory(process.pid), hosts: hosts.reduce((sum, pid) => sum + ownMemory(pid), 0) };
    };
    const before = now();
    const startedAt = performance.now();
    for (let i = 0; i < SESSIONS; i += 1) library.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION);
    const took = performance.now() - startedAt;
    const after = now();
    library.C_Finalize();
    return [
      {
        name: 'ours',
        sessions: SESSIONS,
        'application MiB': rounded((after.own - before.own) / MIB),
        'hosts MiB': rounded(Math.max(0, after.hosts - before.hosts) / MIB),
        'µs a session': rounded((1000 * took) / SESSIONS),
      },
    ];
  } finally {
    await bed.close();
  }
}
