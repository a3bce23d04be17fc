import { realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import type { HostOptions } from '../../core/base/port.js';

/** Meanings of the exit codes of a host that could not be confined; see native/host/process/sandbox.h. */
const problems: ReadonlyMap<number, string> = new Map([
  [
    113,
    'this kernel cannot confine the host: `sandbox` needs Landlock (Linux 5.13), and `sandbox.connect` its version 4 (Linux 6.7)',
  ],
  [114, 'a path of `sandbox` cannot be opened; an event `output` names it'],
]);

/** Returns why a confined host exited with a code; undefined if the confinement is not the reason. */
export function sandboxProblem({ sandbox }: HostOptions, code: number): string | undefined {
  return sandbox === undefined ? undefined : problems.get(code);
}

/** Returns the library's folder, where its link leads; nothing for a library that the system's loader finds. */
function folderOf(module: string): readonly string[] {
  if (!module.startsWith('/')) return [];
  try {
    return [dirname(module), dirname(realpathSync(module))];
  } catch {
    // The host reports that the library is missing.
    return [];
  }
}

/**
 * Returns the arguments that confine a host. It may read its library's folder, and write the lock folder, in which it
 * holds the claims of its application.
 */
export function sandboxArguments({ sandbox, module }: HostOptions, locks: string): readonly string[] {
  if (sandbox === undefined) return [];
  const { read, write, connect } = sandbox;
  return [
    '--sandbox',
    ...[...folderOf(module), ...read, ...write].map((path) => `--read=${path}`),
    ...[locks, ...write].map((path) => `--write=${path}`),
    ...(connect === undefined ? [] : [`--connect=${connect.join(',')}`]),
  ];
}
