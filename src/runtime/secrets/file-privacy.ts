import type { Stats } from 'node:fs';

const OTHERS_WRITE = 0o002;
const OTHERS_READ = 0o004;

/** Files that this process has warned of. */
const warned = new Set<string>();

/** Returns the reason for not trusting a file's content; undefined if only its owner and its Unix group can write it. */
export function dangerOf(path: string, stat: Pick<Stats, 'mode'>): string | undefined {
  return (stat.mode & OTHERS_WRITE) === 0
    ? undefined
    : `${path} can be written by every user of this machine: \`chmod o-w ${path}\``;
}

/** Warns once, on standard error, of a file with a secret that every user of this machine can read. */
export function warnIfReadable(path: string, stat: Pick<Stats, 'mode'>): void {
  if ((stat.mode & OTHERS_READ) === 0 || warned.has(path)) return;
  warned.add(path);
  process.emitWarning(`${path} can be read by every user of this machine: \`chmod o-r ${path}\``, {
    code: 'PKCS11_HA_READABLE_SECRET',
  });
}
