/**
 * What comes and goes all the time, by the place that each thing is given. Not a Map or a Set: those are made anew
 * every so many additions, and V8 links each former table to the next one, so that once one of them has grown old, all
 * that was ever in the later ones outlives the collections of what is young.
 */
export class FreeList<T> {
  readonly #items: (T | undefined)[] = [];
  readonly #free: number[] = [];
  #size: number = 0;

  get size(): number {
    return this.#size;
  }

  /** Gives the item's place, the same for as long as it is there. */
  add(item: T): number {
    const place = this.#free.pop() ?? this.#items.length;
    this.#items[place] = item;
    this.#size += 1;
    return place;
  }

  at(place: number): T | undefined {
    return this.#items[place];
  }

  remove(place: number): void {
    if (this.#items[place] === undefined) return;
    this.#items[place] = undefined;
    this.#free.push(place);
    this.#size -= 1;
  }

  clear(): void {
    this.#items.length = 0;
    this.#free.length = 0;
    this.#size = 0;
  }

  /** What is there, in no order that means anything. */
  all(): T[] {
    return this.#items.filter((item): item is T & {} => item !== undefined);
  }
}
