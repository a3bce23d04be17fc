import { EventEmitter } from 'node:events';
import { addMember } from '../../core/administration/add-member.js';
import { assignRole, recoverMember, setDrained } from '../../core/administration/duty.js';
import { type RemovalReport, removeMember } from '../../core/administration/remove-member.js';
import { type SynchronizationReport, synchronize } from '../../core/administration/synchronization.js';
import { type BackupReport, backUp } from '../../core/backup/backup.js';
import type { BackupLocation } from '../../core/backup/backup-token.js';
import { type RestoreReport, restoreBackup } from '../../core/backup/restore.js';
import { withFunctionName } from '../../core/base/error.js';
import type {
  ConfigurationEvent,
  FailoverEvent,
  MemberEvent,
  MembershipEvent,
  MisalignedEvent,
  MissingEvent,
  OutputEvent,
  PinEvent,
  ProgressEvent,
  SyncEvent,
} from '../../core/base/event.js';
import type { Task } from '../../core/base/task.js';
import type { MemberConfig, PinReference, TokenSelector } from '../../core/configuration/configuration.js';
import { checkBackupToken, checkMember, checkPinReference } from '../../core/configuration/validation.js';
import type { Group } from '../../core/group/group.js';
import type { PinReport } from '../../core/pin/pin-change.js';
import { administer, administerWith, changePin } from '../../runtime/groups/administration.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import { fetchPin, guardPin } from '../../runtime/secrets/pin.js';
import { InputError } from '../../spec/input.js';
import { budgetOf, type CallOptions, checkOpen } from './input.js';

/** Work on whole tokens takes as long as it takes (ms). */
const WORK_WITHIN = 3_600_000;
/** Nobody else can put it in order for that long, should this machine be lost in the middle (ms). */
const PIN_WITHIN = 300_000;

export interface TokenEvents {
  failover: [FailoverEvent];
  member: [MemberEvent];
  misaligned: [MisalignedEvent];
  missing: [MissingEvent];
  sync: [SyncEvent];
  membership: [MembershipEvent];
  pin: [PinEvent];
  progress: [ProgressEvent];
  configuration: [ConfigurationEvent];
  output: [OutputEvent];
}

/** A member as a configuration has it: what has a default may be left out. */
export type MemberInput = Pick<MemberConfig, 'name' | 'module' | 'token'> & Partial<MemberConfig>;

export interface AddMemberOptions extends CallOptions {
  /** What to do with records of another group on the token: `remove` takes them and the keys of that group away. */
  readonly existing?: 'remove';
}

export interface RemoveMemberOptions extends CallOptions {
  /** Takes the applications' objects off the token too. */
  readonly wipe?: boolean;
}

export interface SynchronizeOptions extends CallOptions {
  /** Only reports what is different. */
  readonly dryRun?: boolean;
}

export interface ChangePinOptions extends CallOptions {
  /** Members that are away get the new PIN when they return; without it every member has to be there. */
  readonly pending?: boolean;
}

/** The new PIN itself, or where it is. */
export type PinInput = PinReference | string | Uint8Array;

/** A token that is none of the members. */
export interface BackupTokenInput {
  /** Path of the vendor's PKCS#11 library. */
  readonly module: string;
  readonly token: TokenSelector;
  /** Set in the token's host process only. */
  readonly env?: Readonly<Record<string, string>>;
  readonly libraryParameters?: string;
  /** Where its PIN comes from; the group's where none is given. It is tried once. */
  readonly pin?: PinReference;
}

export interface BackupOptions extends CallOptions {
  /** What to do with records of a group, or a backup of another group, on the token: `remove` takes them away for good. */
  readonly existing?: 'remove';
}

function nameOf(name: unknown): string {
  if (typeof name !== 'string' || name === '') throw new InputError('name', 'the name of a member', name);
  return name;
}

/**
 * What an operator does with a group while applications use it. Every call may be interrupted anywhere, and made
 * again; where none is given its deadline is an hour. What changes the group's record is taken up by all processes
 * that have the group open.
 */
export class AdministeredToken extends EventEmitter<TokenEvents> {
  readonly #open: OpenGroup;

  protected constructor(open: OpenGroup) {
    super();
    this.#open = open;
  }

  /**
   * Makes a token a member: it gets all keys, sealed ones too, and then serves. Needs a group record (createGroup).
   * CKR_ACTION_PROHIBITED for a token of another group, CKR_DEVICE_REMOVED where it cannot be reached.
   */
  async addMember(member: MemberInput, options: AddMemberOptions = {}): Promise<void> {
    const config = checkMember(member);
    const { existing } = options;
    if (existing !== undefined && existing !== 'remove') throw new InputError('options.existing', "'remove'", existing);
    await this.#administer('addMember', (group, deadline) => addMember(group, config, { existing }, deadline), options);
  }

  /**
   * Takes a member out of the group: the others get a new domain key, and the group's records and keys are taken off
   * it where it can be reached. CKR_ACTION_PROHIBITED for the last one that serves.
   */
  async removeMember(name: string, options: RemoveMemberOptions = {}): Promise<RemovalReport> {
    const wipe = options.wipe === true;
    return await this.#administer(
      'removeMember',
      (group, deadline) => removeMember(group, nameOf(name), { wipe }, deadline),
      options,
    );
  }

  /** Takes a member out of service for all processes: it finishes what is running. CKR_ACTION_PROHIBITED for the last one. */
  async drain(name: string, options: CallOptions = {}): Promise<void> {
    await this.#administer('drain', (group, deadline) => setDrained(group, nameOf(name), true, deadline), options);
  }

  /** Has a drained member catch up and serve again. */
  async undrain(name: string, options: CallOptions = {}): Promise<void> {
    await this.#administer('undrain', (group, deadline) => setDrained(group, nameOf(name), false, deadline), options);
  }

  /** Has a member in reserve serve like the others, in this process. */
  async promote(name: string, options: CallOptions = {}): Promise<void> {
    await this.#assign(nameOf(name), 'active', options);
  }

  /** Has a member wait in reserve, in this process. CKR_ACTION_PROHIBITED for the last one that serves. */
  async demote(name: string, options: CallOptions = {}): Promise<void> {
    await this.#assign(nameOf(name), 'standby', options);
  }

  /** Has a member that is away come back now. CKR_DEVICE_REMOVED, with the reason, when it does not. */
  async recover(name: string, options: CallOptions = {}): Promise<void> {
    await this.#administer('recover', (group, deadline) => recoverMember(group, nameOf(name), deadline), options);
  }

  /**
   * Gives all members one new user PIN, or none. What was interrupted is finished, or taken back, by whoever opens the
   * group next; see docs/operation.md. The configuration still says the old one: that is the caller's to change.
   *
   * CKR_DEVICE_REMOVED when a member is away and `pending` is not said, InputError for a PIN that is empty, too long
   * or that of now. Where none is given its deadline is five minutes; who gives it up has it taken back.
   */
  async changePin(newPin: PinInput, options: ChangePinOptions = {}): Promise<PinReport> {
    const budget = budgetOf(options, PIN_WITHIN);
    const pending = options.pending === true;
    checkOpen(this.#open);
    const isGiven = typeof newPin === 'string' || newPin instanceof Uint8Array;
    const pin = isGiven ? guardPin('newPin', newPin) : await fetchPin(checkPinReference('newPin', newPin));
    if (this.#open.isClosed) pin.wipe();
    checkOpen(this.#open);
    return await changePin(this.#open, pin, pending, budget, options.signal);
  }

  /** Compares all that members have, and repairs what is different. See docs/operation.md for what is repaired how. */
  async synchronize(options: SynchronizeOptions = {}): Promise<SynchronizationReport> {
    const dryRun = options.dryRun === true;
    return await this.#administer(
      'synchronize',
      (group, deadline) => synchronize(group, { dryRun }, deadline),
      options,
    );
  }

  /**
   * Puts all that the group has on a token that is none of its members: keys wrapped, so that only that token opens
   * them. It holds what was there when the call began, and takes the place of an older backup of the group when it is
   * whole. CKR_ACTION_PROHIBITED for a member, and for a token with records of a group or another group's backup.
   */
  async backup(target: BackupTokenInput, options: BackupOptions = {}): Promise<BackupReport> {
    const { existing } = options;
    if (existing !== undefined && existing !== 'remove') throw new InputError('options.existing', "'remove'", existing);
    return await this.#withToken('target', target, options, (group, place, deadline) =>
      backUp(group, place, { existing }, deadline),
    );
  }

  /**
   * Puts what a backup holds on all members, each object under the handle that it had. What is there is left alone;
   * another key of the same name and handle is reported. CKR_DATA_INVALID where the token has no whole backup.
   */
  async restore(source: BackupTokenInput, options: CallOptions = {}): Promise<RestoreReport> {
    return await this.#withToken('source', source, options, restoreBackup);
  }

  async #withToken<T>(
    name: string,
    input: BackupTokenInput,
    options: CallOptions,
    work: (group: Group, place: BackupLocation, deadline: number) => Task<T>,
  ): Promise<T> {
    const token = checkBackupToken(input, name);
    const within = budgetOf(options, WORK_WITHIN);
    checkOpen(this.#open);
    return await administerWith(
      this.#open,
      name === 'target' ? 'backup' : 'restore',
      token,
      work,
      within,
      options.signal,
    );
  }

  async #assign(name: string, duty: 'active' | 'standby', options: CallOptions): Promise<void> {
    checkOpen(this.#open);
    const { group } = this.#open;
    // biome-ignore lint/correctness/useYield: what is decided here is done beside
    const assigning = (function* (): Task<void> {
      assignRole(group, name, duty);
    })();
    await this.#open.run(withFunctionName(duty === 'active' ? 'promote' : 'demote', assigning), options.signal);
  }

  async #administer<T>(
    name: string,
    work: (group: Group, deadline: number) => Task<T>,
    options: CallOptions,
  ): Promise<T> {
    const within = budgetOf(options, WORK_WITHIN);
    checkOpen(this.#open);
    return await administer(this.#open, name, work, within, options.signal);
  }
}
