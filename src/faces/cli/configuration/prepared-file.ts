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

/** Text that is on the disk already, and takes its place in one step. */
export interface PreparedFile {
  /** Where it goes. */
  readonly path: string;
  /** Where it is until then. */
  readonly aside: string;
  /** Puts it in place. */
  put(): void;
  /** Takes it away where it was not put. */
  drop(): void;
}

/**
 * Writes a file beside its place, so that a full disk is known before anything is done; it is there whole, or not. What
 * takes another file's place has its owner and its permissions; `mode` is that of a new one.
 */
export function prepareFile(given: string, content: string | Uint8Array, mode: number): PreparedFile {
  // A link stays a link.
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
      // What has come there meanwhile is not overwritten.
      if (former === undefined && existsSync(path))
        throw new Failure(`${path} has come into being meanwhile`, 'it was left as it is: choose another place');
      renameSync(aside, path);
      isThere = false;
    },
    drop,
  };
}
