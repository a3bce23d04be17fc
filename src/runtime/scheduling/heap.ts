/** Item that is due at a time (ms of the clock); the heap keeps its index in `slot`, -1 outside. */
export interface Due {
  dueAt: number;
  slot: number;
}

/** Binary heap of due items, earliest first. Items can be removed from anywhere: most waits end before their time. */
export class DueHeap<D extends Due> {
  readonly #items: D[] = [];

  get first(): D | undefined {
    return this.#items[0];
  }

  add(item: D): void {
    item.slot = this.#items.length;
    this.#items.push(item);
    this.#up(item.slot);
  }

  remove(item: D): void {
    const { slot } = item;
    if (slot < 0 || this.#items[slot] !== item) return;
    const last = this.#items.pop();
    item.slot = -1;
    if (last === undefined || last === item) return;
    this.#put(slot, last);
    this.#up(slot);
    this.#down(last.slot);
  }

  #put(slot: number, item: D): void {
    this.#items[slot] = item;
    item.slot = slot;
  }

  #up(start: number): void {
    let slot = start;
    const item = this.#items[slot];
    if (item === undefined) return;
    while (slot > 0) {
      const above = (slot - 1) >> 1;
      const parent = this.#items[above];
      if (parent === undefined || parent.dueAt <= item.dueAt) break;
      this.#put(slot, parent);
      slot = above;
    }
    this.#put(slot, item);
  }

  #down(start: number): void {
    let slot = start;
    const item = this.#items[slot];
    if (item === undefined) return;
    for (;;) {
      let below = slot * 2 + 1;
      let child = this.#items[below];
      const other = this.#items[below + 1];
      if (child !== undefined && other !== undefined && other.dueAt < child.dueAt) {
        below += 1;
        child = other;
      }
      if (child === undefined || child.dueAt >= item.dueAt) break;
      this.#put(slot, child);
      slot = below;
    }
    this.#put(slot, item);
  }
}
