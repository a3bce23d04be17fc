import { EventEmitter } from 'node:events';
import type { MemberConfig } from '../../core/configuration.js';
import type {
  ConfigurationEvent,
  FailoverEvent,
  MemberEvent,
  MembershipEvent,
  MisalignedEvent,
  MissingEvent,
  OutputEvent,
  ProgressEvent,
  SyncEvent,
} from '../../core/event.js';
import type { Group } from '../../core/group.js';
import {
  addMember,
  assign,
  inTurn,
  type RemovalReport,
  recoverMember,
  removeMember,
  setDrained,
} from '../../core/membership.js';
import { type SynchronizationReport, synchronize } from '../../core/synchronization.js';
import type { Task } from '../../core/task.js';
import { checkMember } from '../../core/validation.js';
import type { OpenGroup } from '../../runtime/open-group.js';
import { InputError } from '../../spec/input.js';
import { budgetOf, type CallOptions, checkOpen } from './input.js';

/** Work on whole tokens takes as long as it takes (ms). */
const WORK_WITHIN = 3_600_000;

export interface TokenEvents {
  failover: [FailoverEvent];
  member: [MemberEvent];
  misaligned: [MisalignedEvent];
  missing: [MissingEvent];
  sync: [SyncEvent];
  membership: [MembershipEvent];
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
    await this.#administer((group, deadline) => addMember(group, config, { existing }, deadline), options);
  }

  /**
   * Takes a member out of the group: the others get a new domain key, and the group's records and keys are taken off
   * it where it can be reached. CKR_ACTION_PROHIBITED for the last one that serves.
   */
  async removeMember(name: string, options: RemoveMemberOptions = {}): Promise<RemovalReport> {
    const wipe = options.wipe === true;
    return await this.#administer((group, deadline) => removeMember(group, nameOf(name), { wipe }, deadline), options);
  }

  /** Takes a member out of service for all processes: it finishes what is running. CKR_ACTION_PROHIBITED for the last one. */
  async drain(name: string, options: CallOptions = {}): Promise<void> {
    await this.#administer((group, deadline) => setDrained(group, nameOf(name), true, deadline), options);
  }

  /** Has a drained member catch up and serve again. */
  async undrain(name: string, options: CallOptions = {}): Promise<void> {
    await this.#administer((group, deadline) => setDrained(group, nameOf(name), false, deadline), options);
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
    await this.#administer((group, deadline) => recoverMember(group, nameOf(name), deadline), options);
  }

  /** Compares all that members have, and repairs what is different. See docs/operation.md for what is repaired how. */
  async synchronize(options: SynchronizeOptions = {}): Promise<SynchronizationReport> {
    const dryRun = options.dryRun === true;
    return await this.#administer((group, deadline) => synchronize(group, { dryRun }, deadline), options);
  }

  async #assign(name: string, duty: 'active' | 'standby', options: CallOptions): Promise<void> {
    // biome-ignore lint/correctness/useYield: what is decided here is done beside
    await this.#administer(function* (group): Task<void> {
      assign(group, name, duty);
    }, options);
  }

  async #administer<T>(work: (group: Group, deadline: number) => Task<T>, options: CallOptions): Promise<T> {
    const deadline = this.#open.now() + budgetOf(options, WORK_WITHIN);
    checkOpen(this.#open);
    const { group } = this.#open;
    return await this.#open.run(inTurn(group, work(group, deadline)), options.signal);
  }
}
