import type { VirtualObject } from '../objects/object.js';

/** Maximum number of shapes that are kept for a key, or for digests; then all of them are forgotten. */
const MOST_SHAPES = 4096;

/** Init with its key; undefined for digests. */
interface Keyed {
  readonly key: VirtualObject | undefined;
}

/**
 * Cache of Inits that a member has accepted. An Init, or first Update, is put to a member once for each function,
 * mechanism, shape of its parameter, and key. From then on the Init goes to a member together with the data.
 */
export class InitChecks {
  readonly #ofKeys = new WeakMap<VirtualObject, Set<string>>();
  readonly #ofDigests = new Set<string>();

  has({ key }: Keyed, shape: string): boolean {
    return (key === undefined ? this.#ofDigests : this.#ofKeys.get(key))?.has(shape) === true;
  }

  add({ key }: Keyed, shape: string): void {
    const shapes = key === undefined ? this.#ofDigests : (this.#ofKeys.get(key) ?? new Set());
    if (shapes.size >= MOST_SHAPES) shapes.clear();
    shapes.add(shape);
    if (key !== undefined) this.#ofKeys.set(key, shapes);
  }

  /** Forgets the checks of a key whose attributes have changed. */
  forget(key: VirtualObject): void {
    this.#ofKeys.delete(key);
  }
}
