import { randomBytes } from 'node:crypto';
import { closeSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileNameOf, type LockFolder } from './lock-folder.js';

/** Age from which a newer note replaces those of other processes, which may have ended (ms). */
const REPLACED_AFTER = 60_000;

/**
 * Notes that members lack changes: a folder for each member, with a file for each note. A process that notes one more
 * change makes a new file and removes its last one, so that each process has one file at most.
 */
export class MissedNotes {
  readonly #locks: LockFolder;
  readonly #own = new Map<string, string>();

  constructor(locks: LockFolder) {
    this.#locks = locks;
  }

  #folder(serial: string): string {
    return join(this.#locks.path, 'missed', fileNameOf(serial));
  }

  /** Makes a note on a member; does nothing if the folder cannot be written: the tokens' records tell too. */
  add(serial: string): void {
    const note = randomBytes(8).toString('hex');
    try {
      this.#locks.makeFolder(join(this.#locks.path, 'missed'));
      this.#locks.makeFolder(this.#folder(serial));
      closeSync(this.#locks.create(join(this.#folder(serial), note)));
    } catch {
      return;
    }
    const last = this.#own.get(serial);
    this.#own.set(serial, note);
    this.remove(serial, last === undefined ? this.#oldNotes(serial) : [last]);
  }

  /** Lists the notes that are too old to be those of processes which just now replace each other's. */
  #oldNotes(serial: string): readonly string[] {
    const newest = Date.now() - REPLACED_AFTER;
    return this.list(serial).filter((note) => {
      const path = join(this.#folder(serial), note);
      return (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY) < newest;
    });
  }

  list(serial: string): readonly string[] {
    try {
      return readdirSync(this.#folder(serial));
    } catch {
      return [];
    }
  }

  remove(serial: string, notes: readonly string[]): void {
    for (const note of notes) {
      try {
        rmSync(join(this.#folder(serial), note), { force: true });
      } catch {
        // The note stays: others then ask another member too.
      }
    }
  }
}
