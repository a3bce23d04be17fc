import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from './connection.js';
import type { Group } from './group.js';
import { stepLimit } from './hang-limits.js';

/** Interval between looks at a call that is late (ms). */
const LOOK_INTERVAL = 25;

/** Ends the host if one of its calls does not return: until a member serves, no watch does. */
export function* endIfHung(group: Group, connection: Connection): Task<void> {
  const { port, policy } = group;
  const limit = stepLimit(policy);
  const limits = { hangAfter: limit, writeHangAfter: limit };
  while (!connection.isHung(port.now(), limits)) {
    const hungAt = connection.hungAt(limits);
    const until = port.now() + Math.max(LOOK_INTERVAL, Math.min(limit, hungAt - port.now()));
    yield* race([connection.ended], until);
    if (connection.end !== undefined) return;
  }
  yield* connection.giveUp(policy);
}
