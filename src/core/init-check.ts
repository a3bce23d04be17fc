import { runCall } from './call.js';
import { type Beginning, checking, shapeOf } from './data-operation.js';
import type { Group } from './group.js';
import { functionsOf } from './operation-kind.js';
import type { Task } from './task.js';

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
