import type { Task } from '../../core/base/task.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import type { NativeSecret } from '../../runtime/hosts/addon.js';
import type { SecretRef } from '../../spec/job.js';
import type { SessionCall } from './methods.js';

/** The group wipes it when it is closed, or when it needs it no more. */
export function keepPin({ secrets }: OpenGroup, pin: SecretRef): SecretRef {
  return secrets.hold(pin as NativeSecret);
}

/**
 * PINs that were given for one call are wiped after it, unless the group has taken them for its own, or a login with
 * them may still be on its way.
 */
export function* withPins<T>({ open }: SessionCall, pins: readonly (SecretRef | undefined)[], task: Task<T>): Task<T> {
  try {
    return yield* task;
  } finally {
    for (const pin of pins) {
      if (pin === undefined) continue;
      if (pin === open.group.pin || open.group.pins.takenBack.has(pin)) keepPin(open, pin);
      else (pin as NativeSecret).wipe();
    }
  }
}
