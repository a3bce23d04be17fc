import { type FSWatcher, watch } from 'node:fs';
import { basename, dirname } from 'node:path';

/** Time without changes before the file is read (ms): editors and tools write a file in several steps. */
const STILL_FOR = 100;

/** Watches a configuration file for changes, including its replacement by another file. */
export class ConfigurationFile {
  readonly #watcher: FSWatcher;
  #timer: NodeJS.Timeout | undefined;

  constructor(path: string, changed: () => void) {
    // Watches the folder: a watch on the file would end when another file replaces it.
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
