import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { GroupConfigInput } from '../../src/index.js';

export const serviceProgram: string = fileURLToPath(new URL('./programs/service.js', import.meta.url));

export interface Program {
  readonly child: ChildProcess;
  /** The first line it prints, parsed. */
  readonly told: Promise<Record<string, unknown>>;
  readonly ended: Promise<{ readonly code: number | null; readonly signal: string | null }>;
}

/** Starts test/support/programs/service.js in a process of its own. */
export function startService(
  mode: string,
  configuration: GroupConfigInput,
  stderr: 'inherit' | 'pipe' = 'inherit',
): Program {
  const child = spawn(process.execPath, [serviceProgram, mode, JSON.stringify(configuration)], {
    stdio: ['pipe', 'pipe', stderr],
    // Said, because what jest shows as process.env is a copy that children do not inherit.
    env: process.env,
  });
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const told = Promise.race([once(lines, 'line'), once(lines, 'close')]).then(([line]) => JSON.parse(line as string));
  const ended = once(child, 'exit').then(([code, signal]) => ({ code, signal }));
  return { child, told, ended };
}

/** The processes that have ended and that their parent, this one, has not reaped. */
export function zombies(pids: readonly number[]): readonly number[] {
  return pids.filter((pid) => existsSync(`/proc/${pid}`));
}

// A zombie is gone: it holds nothing, whoever is slow to reap it.
function isThere(pid: number): boolean {
  try {
    return !/^State:\s+Z/mu.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

/** Waits until none of the processes exists any more; they are nobody's children here, so nobody tells. */
export async function untilGone(pids: readonly number[]): Promise<void> {
  while (pids.some(isThere)) await wait(5);
}
