import { runCall } from './call.js';
import { type Beginning, checking, shapeOf } from './data-operation.js';
import type { Group } from './group.js';
import type { VirtualObject } from './object.js';
import { functionsOf } from './operation-kind.js';
import type { Task } from './task.js';

const MOST_SHAPES = 4096;

/**
 * What members have taken once they take again: an Init, and the first Update, is put to one of them when function,
 * mechanism, shape of its parameter and key are seen for the first time, and goes with the data from then on.
 */
export class InitChecks {
  readonly #ofKeys = new WeakMap<VirtualObject, Set<string>>();
  readonly #ofDigests = new Set<string>();

  has({ key }: Beginning, shape: string): boolean {
    return (key === undefined ? this.#ofDigests : this.#ofKeys.get(key))?.has(shape) === true;
  }

  add({ key }: Beginning, shape: string): void {
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

export function* checkInit(group: Group, beginning: Beginning, deadline: number): Task<void> {
  const shape = shapeOf(functionsOf[beginning.kind].init, beginning.mechanism);
  if (beginning.only === undefined && group.initChecks.has(beginning, shape)) return;
  yield* runCall(group, checking(beginning), deadline);
  group.initChecks.add(beginning, shape);
}

export function* checkFirstUpdate(group: Group, beginning: Beginning, data: Uint8Array, deadline: number): Task<void> {
  const shape = shapeOf(functionsOf[beginning.kind].update ?? '', beginning.mechanism);
  if (group.initChecks.has(beginning, shape)) return;
  yield* runCall(group, checking(beginning, data), deadline);
  group.initChecks.add(beginning, shape);
}
