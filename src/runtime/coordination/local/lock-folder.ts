import { randomBytes } from 'node:crypto';
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  type Stats,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ConfigurationError } from '../../../core/configuration/validation.js';

/** Folder for the lock folders of all groups, which the administrator makes for several users to share. */
const SHARED_BASE = '/run/pkcs11-ha';
/** Variable that names another such folder. */
const BASE_VARIABLE = 'PKCS11_HA_LOCKS';
/** File with the folder's id. */
export const ID = 'id';
const OTHERS_WRITE = 0o002;
const GROUP_WRITE = 0o020;
const SET_GROUP = 0o2000;
/** Time within which a new folder gets its mode (ms). */
const MAKING_TIME = 200;
/** Number of looks within that time. */
const MAKING_TRIES = 10;

/** Returns a file name for a text: no separator, and no name that begins with a dot. */
export function fileNameOf(text: string): string {
  // Half a surrogate pair, which JSON can hold, has no encoding.
  return encodeURIComponent(text.replace(/\p{Surrogate}/gu, '_')).replace(/^\./u, '%2E');
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);

/** Returns the reason for which a folder is not safe for locks; undefined if it is. */
function dangerOf(stat: Stats): string | undefined {
  const own = process.geteuid?.() ?? 0;
  const groups = [process.getegid?.() ?? 0, ...(process.getgroups?.() ?? [])];
  if (!stat.isDirectory()) return 'is not a folder';
  if ((stat.mode & OTHERS_WRITE) !== 0) return 'can be written by every user';
  // Without that bit the files would be of each user's own Unix group.
  if ((stat.mode & GROUP_WRITE) !== 0 && (stat.mode & SET_GROUP) === 0) return 'lacks the set-group-ID bit';
  if (stat.uid === 0 || stat.uid === own) return undefined;
  const isOfOwnGroup = (stat.mode & GROUP_WRITE) !== 0 && groups.includes(stat.gid);
  return isOfOwnGroup ? undefined : `belongs to another user (uid ${stat.uid})`;
}

/** Returns the folder's status; waits a moment for another user who is just making the folder. */
function settledStat(path: string): Stats {
  for (let tries = 1; ; tries += 1) {
    const stat = lstatSync(path);
    const isNew = Date.now() - stat.ctimeMs < MAKING_TIME;
    if (dangerOf(stat) === undefined || !isNew || tries === MAKING_TRIES) return stat;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, MAKING_TIME / MAKING_TRIES);
  }
}

/** Makes a folder unless it exists; if the folder above passes on its Unix group, the group may write. */
function makeFolder(path: string): void {
  const above = lstatSync(dirname(path));
  try {
    mkdirSync(path, 0o700);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
    // A process that was ended may have left the folder without its mode.
    const stat = lstatSync(path);
    // A link could lead to a folder of others, in which old files would be removed.
    if (!stat.isDirectory()) throw new Error('is not a folder');
    const { uid, mode } = stat;
    if (uid !== process.geteuid?.() || (mode & GROUP_WRITE) !== 0) return;
  }
  // Sets the mode again, since the umask may have taken bits away.
  if ((above.mode & SET_GROUP) !== 0) chmodSync(path, 0o2770);
}

/**
 * Folder of a group's lock files. Processes exclude each other only if they use the same folder, so the folder belongs
 * to the group and not to a user. Its id stands in the names of writers.
 */
export class LockFolder {
  readonly id: string;
  /** Mode of the files in the folder: the Unix group may write them if it may write the folder. */
  readonly fileMode: number;

  private constructor(
    readonly path: string,
    /** Reason for which processes of other users may not be excluded; undefined if they are. */
    readonly problem: string | undefined,
  ) {
    makeFolder(path);
    const stat = settledStat(path);
    const danger = dangerOf(stat);
    if (danger !== undefined) throw new Error(danger);
    this.fileMode = (stat.mode & GROUP_WRITE) === 0 ? 0o600 : 0o660;
    for (const name of ['claims', 'writers']) this.makeFolder(join(path, name));
    // The folder may be from before its file system became read-only.
    accessSync(path, constants.W_OK);
    this.id = this.#readId();
  }

  /**
   * Opens the lock folder of a group, and makes it if needed: the folder that is configured, or one below the shared
   * folder, or one of this user. Throws ConfigurationError if the configured folder cannot be used.
   */
  static open(setting: string | undefined, label: string): LockFolder {
    const name = fileNameOf(label);
    const base = process.env[BASE_VARIABLE];
    if (setting !== undefined) return LockFolder.#openConfigured(setting, 'locks');
    if (base !== undefined && base !== '') return LockFolder.#openConfigured(join(base, name), BASE_VARIABLE, base);
    let why = '';
    try {
      if (process.geteuid?.() === 0) mkdirSync(SHARED_BASE, { mode: 0o755, recursive: true });
      return new LockFolder(join(SHARED_BASE, name), undefined);
    } catch (error) {
      why = codeOf(error) === 'ENOENT' ? 'does not exist' : `cannot be used (${reasonOf(error)})`;
    }
    const advice = `${join(SHARED_BASE, name)} ${why}; make ${SHARED_BASE} for the Unix group of all users of the group, or set locks`;
    const problem = `processes of other users are not excluded: ${advice}`;
    for (const folder of userFolders()) {
      try {
        mkdirSync(folder, { mode: 0o700, recursive: true });
        const danger = dangerOf(lstatSync(folder));
        if (danger === undefined) return new LockFolder(join(folder, name), problem);
      } catch {
        // The next folder is tried.
      }
    }
    throw new ConfigurationError('locks', [`no folder for lock files can be written: ${advice}`]);
  }

  static #openConfigured(path: string, source: string, base?: string): LockFolder {
    try {
      if (base !== undefined) mkdirSync(base, { mode: 0o700, recursive: true });
      return new LockFolder(path, undefined);
    } catch (error) {
      throw new ConfigurationError(source, [`the folder for lock files ${path} cannot be used: ${reasonOf(error)}`]);
    }
  }

  makeFolder(path: string): void {
    makeFolder(path);
    if (this.fileMode === 0o660) {
      try {
        chmodSync(path, 0o2770);
      } catch (error) {
        // Another user of the Unix group has made the folder.
        if (codeOf(error) !== 'EPERM') throw error;
      }
    }
  }

  /** Makes a new file and opens it; throws EEXIST if there is one. */
  create(path: string): number {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const descriptor = openSync(path, flags, this.fileMode);
    fchmodSync(descriptor, this.fileMode);
    return descriptor;
  }

  /** Makes a file unless there is one. */
  ensure(path: string): void {
    try {
      closeSync(this.create(path));
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
  }

  /** Reads the folder's id; the first process writes it. */
  #readId(): string {
    const path = join(this.path, ID);
    const own = join(this.path, `.${randomBytes(8).toString('hex')}`);
    try {
      return readFileSync(path, 'latin1').trim();
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
    }
    try {
      writeFileSync(own, randomBytes(8).toString('hex'), { mode: this.fileMode, flag: 'wx' });
      chmodSync(own, this.fileMode);
      linkSync(own, path);
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    } finally {
      rmSync(own, { force: true });
    }
    return readFileSync(path, 'latin1').trim();
  }
}

function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  return code ?? (error instanceof Error ? error.message : String(error));
}

/** Returns the folders that only this user can write, the best first. */
function userFolders(): readonly string[] {
  const uid = process.geteuid?.() ?? 0;
  const runtime = process.env.XDG_RUNTIME_DIR ?? `/run/user/${uid}`;
  return [join(runtime, 'pkcs11-ha'), ...[tmpdir(), '/dev/shm'].map((folder) => join(folder, `pkcs11-ha-${uid}`))];
}
