import type { VirtualObject } from '../objects/object.js';

const MOST_SHAPES = 4096;

/** The key of an Init; none for digests. */
interface Keyed {
  readonly key: VirtualObject | undefined;
}

/**
 * What members have taken once they take again: an Init, and the first Update, is put to one of them when function,
 * mechanism, shape of its parameter and key are seen for the first time, and goes with the data from then on.
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

  /** An object has changed: it may be allowed other things by now. */
  forget(key: VirtualObject): void {
    this.#ofKeys.delete(key);
  }
}
