import { runExclusively } from '../../core/administration/membership.js';
import type { BackupLocation } from '../../core/backup/backup-token.js';
import { TokenError, withFunctionName } from '../../core/base/error.js';
import type { Task } from '../../core/base/task.js';
import type { BackupTokenConfig } from '../../core/configuration/configuration.js';
import type { Group } from '../../core/group/group.js';
import { changePin as changePinOfAll, type PinReport } from '../../core/pin/pin-change.js';
import { CKR } from '../../spec/codes.js';
import type { NativeSecret } from '../hosts/addon.js';
import type { OpenGroup } from './open-group.js';

/** Runs an operator's work on a group, one such task at a time. Errors name `name`; `within` is the time limit (ms). */
export async function administer<T>(
  open: OpenGroup,
  name: string,
  work: (group: Group, deadline: number) => Task<T>,
  within: number,
  signal?: AbortSignal,
): Promise<T> {
  const { group } = open;
  const deadline = open.now() + within;
  return await open.run(withFunctionName(name, runExclusively(group, work(group, deadline), deadline)), signal);
}

/**
 * Sets the PIN on all members, and wipes `pin` if the members do not have it afterwards. Once begun, the outcome is
 * awaited even if the caller aborts: the call rejects with the signal's reason only if all members have their former
 * PIN.
 */
export async function changePin(
  open: OpenGroup,
  pin: NativeSecret,
  pending: boolean,
  within: number,
  signal?: AbortSignal,
): Promise<PinReport> {
  const secret = open.secrets.hold(pin);
  const waiting = new AbortController();
  let isBegun = false;
  const giveUp = (): void => {
    if (!isBegun) waiting.abort(signal?.reason);
  };
  const options = { pending, isUnwanted: () => signal?.aborted === true };
  function* work(group: Group, deadline: number): Task<PinReport> {
    isBegun = true;
    return yield* changePinOfAll(group, secret, options, deadline);
  }
  try {
    signal?.throwIfAborted();
    signal?.addEventListener('abort', giveUp);
    return await administer(open, 'changePin', work, within, waiting.signal);
  } catch (error) {
    if (error instanceof TokenError && error.code === CKR.functionCanceled) signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', giveUp);
    // Wipes the PIN if the change never began.
    open.group.pins.wipeUnless([secret]);
  }
}

/** Runs an operator's work with a token that is not a member, and wipes the token's own PIN afterwards. */
export async function administerWith<T>(
  open: OpenGroup,
  name: string,
  { config, pin: reference }: BackupTokenConfig,
  work: (group: Group, location: BackupLocation, deadline: number) => Task<T>,
  within: number,
  signal?: AbortSignal,
): Promise<T> {
  const pin = reference === undefined ? undefined : await open.fetchPin(reference, { within, signal });
  try {
    return await administer(open, name, (group, deadline) => work(group, { config, pin }, deadline), within, signal);
  } finally {
    pin?.wipe();
  }
}
