import { existsSync, lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { AdministrationKeyPair } from './administration-key.js';

/** Form of a group's id, which is a part of file names here. */
const idForm = /^[0-9a-f]{1,64}$/u;
const OTHERS_WRITE = 0o022;

/**
 * Store of administration keys in this user's configuration folder, for groups whose configuration names none: whoever
 * creates such a group can change it, on this account. One file a half, named by the id of the group.
 */
export class KeyStore {
  /** Path of the folder. */
  readonly folder: string;

  constructor(base: string = process.env.XDG_CONFIG_HOME ?? join(homedir(), '.config')) {
    this.folder = join(base, 'pkcs11-ha', 'administration');
  }

  /** Returns the path of the file with a group's private key. */
  privatePath(group: string): string {
    return join(this.folder, `${group}.key`);
  }

  #publicPath(group: string): string {
    return join(this.folder, `${group}.pub`);
  }

  /**
   * Returns the public keys of a group; undefined if there is none here. None counts if others can write it: a record
   * then counts as not signed.
   */
  publicKeysOf(group: string): readonly string[] | undefined {
    const path = this.#publicPath(group);
    if (!idForm.test(group) || !existsSync(path)) return undefined;
    const stat = lstatSync(path);
    const isSafe = stat.isFile() && stat.uid === process.geteuid?.() && (stat.mode & OTHERS_WRITE) === 0;
    return isSafe ? [readFileSync(path, 'latin1').trim()] : [];
  }

  hasPrivate(group: string): boolean {
    return idForm.test(group) && existsSync(this.privatePath(group));
  }

  /** Keeps a group's key pair, with modes that let only this user read the private half. Throws if that fails. */
  keep(group: string, { publicKey, privateKey }: AdministrationKeyPair): void {
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    writeFileSync(this.privatePath(group), `${privateKey}\n`, { mode: 0o600, flag: 'wx' });
    writeFileSync(this.#publicPath(group), `${publicKey}\n`, { mode: 0o644, flag: 'wx' });
  }

  /** Removes a group's key pair. */
  remove(group: string): void {
    if (!idForm.test(group)) return;
    for (const path of [this.privatePath(group), this.#publicPath(group)]) rmSync(path, { force: true });
  }
}
