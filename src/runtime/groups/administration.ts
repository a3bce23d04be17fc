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

/** Runs what an operator does with a group, one such task at a time; its errors name `name`. `within` is in ms. */
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
 * Gives all members the PIN, which is wiped where it is not theirs afterwards. Once begun its outcome is waited for,
 * also by a caller that gives it up: it rejects with the signal's reason only where all members have their former PIN.
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
    // Where it was never begun.
    open.group.pins.wipeUnless([secret]);
  }
}

/** Work with a token that is none of the members; its own PIN, where it has one, is wiped afterwards. */
export async function administerWith<T>(
  open: OpenGroup,
  name: string,
  { config, pin: reference }: BackupTokenConfig,
  work: (group: Group, place: BackupLocation, deadline: number) => Task<T>,
  within: number,
  signal?: AbortSignal,
): Promise<T> {
  const pin = reference === undefined ? undefined : open.readPin(reference);
  try {
    return await administer(open, name, (group, deadline) => work(group, { config, pin }, deadline), within, signal);
  } finally {
    pin?.wipe();
  }
}
