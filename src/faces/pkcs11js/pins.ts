import type { Task } from '../../core/base/task.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import type { NativeSecret } from '../../runtime/hosts/addon.js';
import type { SecretRef } from '../../spec/job.js';
import type { SessionCall } from './methods.js';

/** Hands a PIN over to the group, which wipes it when it closes or no longer needs the PIN. */
function keepPin({ secrets }: OpenGroup, pin: SecretRef): SecretRef {
  return secrets.hold(pin as NativeSecret);
}

/**
 * Runs a call's task and wipes the call's PINs afterwards, unless the group has kept a PIN or a login with it may still
 * be under way.
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
