import { EventEmitter } from 'node:events';
import { addMember } from '../../core/administration/add-member.js';
import { setDrained } from '../../core/administration/drain.js';
import { recoverMember } from '../../core/administration/recover-member.js';
import { type RekeyReport, rekeyGroup } from '../../core/administration/rekey-group.js';
import { type RemovalReport, removeMember } from '../../core/administration/remove-member.js';
import { assignRole } from '../../core/administration/role.js';
import { type SynchronizationReport, synchronize } from '../../core/administration/synchronization.js';
import { type UpgradeReport, upgradeGroup } from '../../core/administration/upgrade-group.js';
import { type BackupReport, backUp } from '../../core/backup/backup.js';
import type { BackupLocation } from '../../core/backup/backup-token.js';
import { type RestoreReport, restoreBackup } from '../../core/backup/restore.js';
import { withFunctionName } from '../../core/base/error.js';
import type {
  ConfigurationEvent,
  CoordinationEvent,
  FailoverEvent,
  MemberEvent,
  MembershipEvent,
  MisalignedEvent,
  MissingEvent,
  OutputEvent,
  PinEvent,
  ProgressEvent,
  RecordsEvent,
  SyncEvent,
} from '../../core/base/event.js';
import type { Task } from '../../core/base/task.js';
import type { MemberInput } from '../../core/configuration/configuration.js';
import { checkBackupToken, checkMember, checkPinReference } from '../../core/configuration/validation.js';
import type { Group } from '../../core/group/group.js';
import type { PinReport } from '../../core/pin/pin-change.js';
import { administer, administerWith, changePin } from '../../runtime/groups/administration.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import { fetchPin, guardPin } from '../../runtime/secrets/pin.js';
import { bytesIn, flagOf, InputError } from '../../spec/input.js';
import type {
  AddMemberOptions,
  BackupOptions,
  BackupTokenInput,
  ChangePinOptions,
  PinInput,
  RemoveMemberOptions,
  SynchronizeOptions,
} from './administration-options.js';
import { budgetOf, type CallOptions, checkOpen } from './input.js';

/** Default deadline of work on whole tokens (ms). */
const WORK_WITHIN = 3_600_000;
/** Default deadline of a PIN change (ms): if this machine is lost meanwhile, no other process can finish it sooner. */
const PIN_WITHIN = 300_000;

/** Events of a virtual token, with their arguments. */
interface TokenEvents {
  failover: [FailoverEvent];
  member: [MemberEvent];
  misaligned: [MisalignedEvent];
  missing: [MissingEvent];
  sync: [SyncEvent];
  membership: [MembershipEvent];
  pin: [PinEvent];
  progress: [ProgressEvent];
  configuration: [ConfigurationEvent];
  coordination: [CoordinationEvent];
  records: [RecordsEvent];
  output: [OutputEvent];
}

function existingIn({ existing }: { readonly existing?: unknown }): 'remove' | undefined {
  if (existing !== undefined && existing !== 'remove') throw new InputError('options.existing', "'remove'", existing);
  return existing;
}

function nameOf(name: unknown): string {
  if (typeof name !== 'string' || name === '') throw new InputError('name', 'the name of a member', name);
  return name;
}

/**
 * Calls for operators, on a group that applications use meanwhile. Every call may be interrupted anywhere and repeated;
 * its default deadline is an hour. All processes that have the group open take up changes of the group's record.
 */
export class AdministeredToken extends EventEmitter<TokenEvents> {
  readonly #open: OpenGroup;

  protected constructor(open: OpenGroup) {
    super();
    this.#open = open;
  }

  /**
   * Makes a token a member: the token gets all keys, sealed keys too, and then serves. Needs a group record
   * (createGroup). CKR_ACTION_PROHIBITED for a token of another group, CKR_DEVICE_REMOVED if the token cannot be
   * reached.
   */
  async addMember(member: MemberInput, options: AddMemberOptions = {}): Promise<void> {
    const config = checkMember(member);
    const within = budgetOf(options, WORK_WITHIN, ['existing']);
    const existing = existingIn(options);
    await this.#administer(
      'addMember',
      (group, deadline) => addMember(group, config, { existing }, deadline),
      within,
      options,
    );
  }

  /**
   * Removes a member from the group: the others get a new domain key, and the group's records and keys are removed from
   * the member's token if it can be reached. CKR_ACTION_PROHIBITED for the last member that serves.
   */
  async removeMember(name: string, options: RemoveMemberOptions = {}): Promise<RemovalReport> {
    const within = budgetOf(options, WORK_WITHIN, ['wipe']);
    const wipe = flagOf('options.wipe', options.wipe);
    return await this.#administer(
      'removeMember',
      (group, deadline) => removeMember(group, nameOf(name), { wipe }, deadline),
      within,
      options,
    );
  }

  /**
   * Takes a member out of service for all processes, after its running calls. CKR_ACTION_PROHIBITED for the last member
   * that serves.
   */
  async drain(name: string, options: CallOptions = {}): Promise<void> {
    await this.#setDrained('drain', name, true, options);
  }

  /** Makes a drained member catch up and serve again. */
  async undrain(name: string, options: CallOptions = {}): Promise<void> {
    await this.#setDrained('undrain', name, false, options);
  }

  /** Makes a standby member serve like the others, in this process. */
  async promote(name: string, options: CallOptions = {}): Promise<void> {
    await this.#assign(nameOf(name), 'active', options);
  }

  /** Makes a member standby, in this process. CKR_ACTION_PROHIBITED for the last member that serves. */
  async demote(name: string, options: CallOptions = {}): Promise<void> {
    await this.#assign(nameOf(name), 'standby', options);
  }

  /** Makes a member that is away come back now. CKR_DEVICE_REMOVED, with the reason, if it does not come back. */
  async recover(name: string, options: CallOptions = {}): Promise<void> {
    const within = budgetOf(options, WORK_WITHIN);
    await this.#administer(
      'recover',
      (group, deadline) => recoverMember(group, nameOf(name), deadline),
      within,
      options,
    );
  }

  /**
   * Sets one new user PIN on all members, or on none. An interrupted change is finished, or undone, by the next process
   * that opens the group; see docs/operation.md. The configuration keeps the old PIN; the caller has to change it
   * there.
   *
   * CKR_DEVICE_REMOVED if a member is away and `pending` is not set, InputError for a PIN that is empty, too long or
   * the current one. The default deadline is five minutes; aborting the call undoes the change.
   */
  async changePin(newPin: PinInput, options: ChangePinOptions = {}): Promise<PinReport> {
    const budget = budgetOf(options, PIN_WITHIN, ['pending']);
    const pending = flagOf('options.pending', options.pending);
    checkOpen(this.#open);
    const given = typeof newPin === 'string' ? newPin : bytesIn(newPin);
    const pin = given === undefined ? await fetchPin(checkPinReference('newPin', newPin)) : guardPin('newPin', given);
    if (this.#open.isClosed) pin.wipe();
    checkOpen(this.#open);
    return await changePin(this.#open, pin, pending, budget, options.signal);
  }

  /** Compares the members' objects and repairs differences; see docs/operation.md for the repairs. */
  async synchronize(options: SynchronizeOptions = {}): Promise<SynchronizationReport> {
    const within = budgetOf(options, WORK_WITHIN, ['dryRun']);
    const dryRun = flagOf('options.dryRun', options.dryRun);
    return await this.#administer(
      'synchronize',
      (group, deadline) => synchronize(group, { dryRun }, deadline),
      within,
      options,
    );
  }

  /**
   * Copies all objects of the group to a token that is not a member; keys are wrapped so that only that token can
   * unwrap them. The backup holds the objects present when the call began, and replaces an older backup of the group
   * once it is complete. CKR_ACTION_PROHIBITED for a member, and for a token with a group's records or another group's
   * backup.
   */
  async backup(target: BackupTokenInput, options: BackupOptions = {}): Promise<BackupReport> {
    const within = budgetOf(options, WORK_WITHIN, ['existing']);
    const existing = existingIn(options);
    return await this.#withToken('target', target, within, options, (group, location, deadline) =>
      backUp(group, location, { existing }, deadline),
    );
  }

  /**
   * Restores a backup's objects to all members, each under its former handle. Existing objects are left alone; another
   * key of the same name and handle is reported. CKR_DATA_INVALID if the token has no complete backup.
   */
  async restore(source: BackupTokenInput, options: CallOptions = {}): Promise<RestoreReport> {
    return await this.#withToken('source', source, budgetOf(options, WORK_WITHIN), options, restoreBackup);
  }

  async #withToken<T>(
    name: string,
    input: BackupTokenInput,
    within: number,
    options: CallOptions,
    work: (group: Group, location: BackupLocation, deadline: number) => Task<T>,
  ): Promise<T> {
    const token = checkBackupToken(input, name);
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

  /**
   * Raises the group's records to the current format. Earlier versions of this library then change nothing in the
   * group any more. Rejects with CKR_DEVICE_REMOVED unless every member is in service.
   */
  async upgradeGroup(options: CallOptions = {}): Promise<UpgradeReport> {
    return await this.#administer('upgradeGroup', upgradeGroup, budgetOf(options, WORK_WITHIN), options);
  }

  /**
   * Gives the group a new domain key, seals the sealed keys under it, and signs the group's record with the configured
   * administration key. Rejects with CKR_DEVICE_REMOVED unless every member is in service.
   */
  async rekeyGroup(options: CallOptions = {}): Promise<RekeyReport> {
    return await this.#administer('rekeyGroup', rekeyGroup, budgetOf(options, WORK_WITHIN), options);
  }

  async #setDrained(method: string, name: string, drained: boolean, options: CallOptions): Promise<void> {
    const within = budgetOf(options, WORK_WITHIN);
    const member = nameOf(name);
    await this.#administer(method, (group, deadline) => setDrained(group, member, drained, deadline), within, options);
  }

  async #assign(name: string, role: 'active' | 'standby', options: CallOptions): Promise<void> {
    budgetOf(options, WORK_WITHIN);
    checkOpen(this.#open);
    const { group } = this.#open;
    // biome-ignore lint/correctness/useYield: assigning a role is immediate; other tasks act on it
    const assigning = (function* (): Task<void> {
      assignRole(group, name, role);
    })();
    await this.#open.run(withFunctionName(role === 'active' ? 'promote' : 'demote', assigning), options.signal);
  }

  async #administer<T>(
    name: string,
    work: (group: Group, deadline: number) => Task<T>,
    within: number,
    options: CallOptions,
  ): Promise<T> {
    checkOpen(this.#open);
    return await administer(this.#open, name, work, within, options.signal);
  }
}
