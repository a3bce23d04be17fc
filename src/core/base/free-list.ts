/**
 * List of items that come and go with every call; each item has an index that is reused after its removal. A Map or Set
 * would not do: both are rebuilt every few additions, and V8 links each former table to the next. Once one of the
 * tables is in the old generation, all later tables outlive the young generation's collections.
 */
export class FreeList<T> {
  readonly #items: (T | undefined)[] = [];
  readonly #free: number[] = [];
  #size: number = 0;

  /** Number of items. */
  get size(): number {
    return this.#size;
  }

  /** Adds an item and returns its index, which stays the same until its removal. */
  add(item: T): number {
    const index = this.#free.pop() ?? this.#items.length;
    this.#items[index] = item;
    this.#size += 1;
    return index;
  }

  at(index: number): T | undefined {
    return this.#items[index];
  }

  remove(index: number): void {
    if (this.#items[index] === undefined) return;
    this.#items[index] = undefined;
    this.#free.push(index);
    this.#size -= 1;
  }

  clear(): void {
    this.#items.length = 0;
    this.#free.length = 0;
    this.#size = 0;
  }

  /** Returns all items, in no particular order. */
  all(): T[] {
    return this.#items.filter((item): item is T & {} => item !== undefined);
  }
}
