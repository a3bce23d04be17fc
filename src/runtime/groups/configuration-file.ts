import { type FSWatcher, watch } from 'node:fs';
import { basename, dirname } from 'node:path';

/** Editors and tools write a file in several steps: it is read when it has been still for so long (ms). */
const STILL_FOR = 100;

/** Watches a configuration file for changes, also those that put another file in its place. */
export class ConfigurationFile {
  readonly #watcher: FSWatcher;
  #timer: NodeJS.Timeout | undefined;

  constructor(path: string, changed: () => void) {
    // The folder, because a file that takes another's place has nothing to do with the one that was watched.
    this.#watcher = watch(dirname(path) || '.', { persistent: false }, (_event, name) => {
      if (name !== null && name !== basename(path)) return;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(changed, STILL_FOR).unref();
    });
    this.#watcher.on('error', () => this.#watcher.close());
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#watcher.close();
  }
}
