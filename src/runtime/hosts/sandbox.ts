import { existsSync } from 'node:fs';
import type { HostOptions } from '../../core/base/port.js';

/** Meanings of the exit codes of a host that could not be confined; see native/host/process/sandbox.h. */
const problems: ReadonlyMap<number, string> = new Map([
  [
    113,
    'this machine cannot confine the host: `sandbox` needs Landlock (Linux 5.13), and `sandbox.connect` Linux 6.7 on x86-64 or arm64; an event `output` says what is missing',
  ],
  [114, 'a path of `sandbox` cannot be opened; an event `output` names it'],
]);

/** Returns why a confined host exited with a code; undefined if the confinement is not the reason. */
export function sandboxProblem({ sandbox }: HostOptions, code: number): string | undefined {
  return sandbox === undefined ? undefined : problems.get(code);
}

/** Returns the arguments that confine a host. It may read its library, and lock the files of the lock folder. */
export function sandboxArguments({ sandbox, module }: HostOptions, locks: string): readonly string[] {
  if (sandbox === undefined) return [];
  const { read, write, connect } = sandbox;
  return [
    '--sandbox',
    // The system's loader finds a library that is named without a path; one that is missing is reported by the host.
    ...(existsSync(module) ? [`--read=${module}`] : []),
    ...read.map((path) => `--read=${path}`),
    ...write.map((path) => `--write=${path}`),
    `--lock=${locks}`,
    ...(connect === undefined ? [] : [`--connect=${connect.join(',')}`]),
  ];
}
