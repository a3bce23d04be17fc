import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { GroupConfigInput } from '../../src/index.js';
import { until } from './waiting.js';

/** Path of programs/service.js as the global setup has bundled it: it starts in half the time. */
export const serviceProgram: string = fileURLToPath(new URL('../../build/test-programs/service.js', import.meta.url));

/** Program in a process of its own. */
export interface Program {
  readonly child: ChildProcess;
  /** First line of its output, parsed as JSON. */
  readonly told: Promise<Record<string, unknown>>;
  /** Lines of its output so far. */
  readonly lines: readonly string[];
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
    // Passes process.env, because jest's is a copy that children do not inherit.
    env: process.env,
  });
  const reader = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const lines: string[] = [];
  reader.on('line', (line) => lines.push(line));
  const told = Promise.race([once(reader, 'line'), once(reader, 'close')]).then(([line]) => JSON.parse(line as string));
  const ended = once(child, 'exit').then(([code, signal]) => ({ code, signal }));
  return { child, told, lines, ended };
}

/** Returns the processes that still have an entry in /proc; an ended child without one has been reaped. */
export function zombies(pids: readonly number[]): readonly number[] {
  return pids.filter((pid) => existsSync(`/proc/${pid}`));
}

/** Returns true if a process exists; a zombie does not count, since it holds no resources. */
export function isThere(pid: number): boolean {
  try {
    return !/^State:\s+Z/mu.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

/** Waits until none of the processes exists any more. They are not this process's children, so no event tells. */
export async function untilGone(pids: readonly number[]): Promise<void> {
  await until(
    () => !pids.some(isThere),
    () => `processes are gone: ${pids.filter(isThere).join(', ')}`,
  );
}
