import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

/** Bytes that are read from a process at once. */
const CHUNK = 4 * 1024 * 1024;

/** Place in a process's memory that holds the bytes that were looked for. */
export interface Finding {
  /** Name of the mapping, such as a file, `[heap]` or `anonymous`. */
  readonly mapping: string;
  /** True if the memory is locked and kept out of core dumps. */
  readonly guarded: boolean;
  /** Bytes around the place, as text, so that a failed test tells what holds them. */
  readonly around: string;
}

/** Mapping of a process, from /proc/PID/smaps. */
interface Mapping {
  readonly from: number;
  readonly to: number;
  readonly name: string;
  readonly readable: boolean;
  readonly flags: readonly string[];
}

function mappingsOf(pid: number): Mapping[] {
  const mappings: Mapping[] = [];
  for (const part of readFileSync(`/proc/${pid}/smaps`, 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/mu)) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$/mu.exec(part);
    if (head === null) continue;
    const [, from = '', to = '', rights = '', name = ''] = head;
    const flags = /^VmFlags:(.*)$/mu.exec(part)?.[1]?.trim().split(' ') ?? [];
    const readable = rights.startsWith('r') && !['[vvar]', '[vsyscall]', '[vdso]'].includes(name);
    mappings.push({
      from: Number.parseInt(from, 16),
      to: Number.parseInt(to, 16),
      name: name === '' ? 'anonymous' : name,
      readable,
      flags,
    });
  }
  return mappings;
}

/** Looks for bytes in all memory of a process. The process may go on meanwhile: what it unmaps is passed over. */
export function scanMemory(pid: number, wanted: Buffer): Finding[] {
  const findings: Finding[] = [];
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const chunk = Buffer.alloc(CHUNK);
  try {
    for (const { from, to, name, readable, flags } of mappingsOf(pid)) {
      if (!readable) continue;
      const guarded = flags.includes('lo') && flags.includes('dd');
      // Chunks overlap, so that bytes across their border are found.
      for (let at = from; at < to; at += CHUNK - wanted.length + 1) {
        let length = 0;
        try {
          length = readSync(memory, chunk, 0, Math.min(CHUNK, to - at), at);
        } catch {
          break;
        }
        for (
          let found = chunk.indexOf(wanted);
          found >= 0 && found < length;
          found = chunk.indexOf(wanted, found + 1)
        ) {
          const around = chunk.toString(
            'latin1',
            Math.max(0, found - 32),
            Math.min(length, found + wanted.length + 32),
          );
          findings.push({ mapping: name, guarded, around: around.replaceAll(/[^\x20-\x7e]/gu, '.') });
        }
        chunk.fill(0, 0, length);
        if (to - at <= CHUNK) break;
      }
    }
  } finally {
    closeSync(memory);
  }
  return findings;
}
