import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Failure } from '../failure.js';

/** File that is written to the disk already, and is put in place in one step. */
export interface PreparedFile {
  /** Path of the file once it is in place. */
  readonly path: string;
  /** Path of the file until then. */
  readonly aside: string;
  /** Puts the file in place. */
  put(): void;
  /** Removes the file if it was not put in place. */
  drop(): void;
}

/**
 * Writes a file beside its place, so that a full disk shows before any other work and no file is ever half written. A
 * file that replaces another gets its owner and permissions; a new file gets `mode`.
 */
export function prepareFile(given: string, content: string | Uint8Array, mode: number): PreparedFile {
  // Resolves a symbolic link, so that the link stays.
  const path = existsSync(given) ? realpathSync(given) : given;
  const former = existsSync(path) ? statSync(path) : undefined;
  const aside = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString('hex')}.tmp`);
  let isThere = false;
  const drop = (): void => {
    if (isThere) rmSync(aside, { force: true });
    isThere = false;
  };
  try {
    const descriptor = openSync(aside, 'wx', 0o600);
    isThere = true;
    try {
      const bytes = typeof content === 'string' ? Buffer.from(content) : content;
      for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written);
      if (former !== undefined && (former.uid !== process.getuid?.() || former.gid !== process.getgid?.()))
        fchownSync(descriptor, former.uid, former.gid);
      fchmodSync(descriptor, former === undefined ? mode : former.mode & 0o7777);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    drop();
    throw error;
  }
  return {
    path,
    aside,
    put: () => {
      // Refuses to overwrite a file that another process has created meanwhile.
      if (former === undefined && existsSync(path))
        throw new Failure(
          `another process has created ${path} meanwhile`,
          'that file was left unchanged; choose another path',
        );
      renameSync(aside, path);
      isThere = false;
    },
    drop,
  };
}
