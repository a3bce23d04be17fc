import type { Task } from '../base/task.js';
import { runCall } from '../call/call.js';
import type { Group } from '../group/group.js';
import { type Beginning, checking, shapeOf } from '../jobs/data-operation.js';
import { functionsOf } from '../jobs/operation-kind.js';

/** Has a member check an Init, unless an Init of the same shape was checked before. */
export function* checkInit(group: Group, beginning: Beginning, deadline: number): Task<void> {
  const shape = shapeOf(functionsOf[beginning.kind].init, beginning.mechanism);
  if (beginning.only === undefined && group.initChecks.has(beginning, shape)) return;
  yield* runCall(group, checking(beginning), deadline);
  group.initChecks.add(beginning, shape);
}

/** Has a member check an Init with the first Update after it, unless that was checked before. */
export function* checkFirstUpdate(group: Group, beginning: Beginning, data: Uint8Array, deadline: number): Task<void> {
  const shape = shapeOf(functionsOf[beginning.kind].update ?? '', beginning.mechanism);
  if (group.initChecks.has(beginning, shape)) return;
  yield* runCall(group, checking(beginning, data), deadline);
  group.initChecks.add(beginning, shape);
}
