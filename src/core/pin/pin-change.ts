import { CKR } from '../../spec/codes.js';
import { InputError } from '../../spec/input.js';
import type { SecretRef } from '../../spec/job.js';
import { recordOf } from '../administration/membership.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { awaitResult, sleepUntil } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { PinPair } from '../group/pins.js';
import { learnFromAll } from '../joining/pin-record.js';
import { hex } from '../objects/note.js';
import type { PinNote } from '../records/record.js';
import { learnRecord } from '../wrapping/membership-record.js';
import { changePinOn } from './member-pin-change.js';
import { completePinChange, spreadPin } from './pin-change-completion.js';
import { clearNotes, everything, holdersIn, writeNote } from './pin-notes.js';

/** Whoever else changes the PIN is looked at again so often (ms). */
const LOOK_AGAIN = 50;
/** Nobody goes on with a change so long after its deadline (ms). */
const GRACE = 60_000;

export interface PinOptions {
  /** Members that are away get the new PIN when they return; without it they have to be there. */
  readonly pending: boolean;
  /** Whether the caller would rather have it taken back; asked before each member's turn. */
  readonly isUnwanted?: () => boolean;
}

export interface PinReport {
  /** The members that have the new PIN. */
  readonly changed: readonly string[];
  /** Those that get it when they return. */
  readonly pending: readonly string[];
}

function refuse(code: number, explanation: string): never {
  throw new TokenError(code, 'C_SetPIN', explanation);
}

/** The name by which one process of the machine at a time changes the PIN, or puts it in order. */
export function claimName({ ledger }: Group): string {
  return `pkcs11-ha pin ${ledger.record?.id ?? ''}`;
}

/**
 * Gives all members a new PIN, or none. Begun is finished, or taken back, whether the caller stays or not: a caller
 * that leaves in the middle has it taken back.
 */
export function* changePin(group: Group, next: SecretRef, options: PinOptions, deadline: number): Task<PinReport> {
  const change = new PinChange(group, next, options, deadline);
  const running = group.port.start(change.run());
  group.keepAlive(running);
  try {
    return yield* awaitResult(running);
  } finally {
    change.isAbandoned = true;
  }
}

class PinChange {
  /** Nobody waits for it any more. */
  isAbandoned = false;

  constructor(
    private readonly group: Group,
    private readonly next: SecretRef,
    private readonly options: PinOptions,
    private readonly deadline: number,
  ) {}

  get isGivenUp(): boolean {
    return this.isAbandoned || this.options.isUnwanted?.() === true;
  }

  *run(): Task<PinReport> {
    const { group, next } = this;
    const { pins } = group;
    const release = yield* this.#claim();
    pins.isBusy = true;
    try {
      return yield* this.#carryOut();
    } finally {
      pins.isBusy = false;
      // Whoever logs in now does so with the PIN of now.
      if (pins.note === undefined) pins.wipeFormer();
      pins.wipeUnless([next]);
      release();
      pins.changed.fire();
    }
  }

  *#claim(): Task<() => void> {
    const { group, deadline } = this;
    recordOf(group);
    if (group.pin === undefined) refuse(CKR.userNotLoggedIn, 'there is no PIN in the configuration');
    for (;;) {
      const release = group.pins.isBusy ? undefined : group.port.claim(claimName(group));
      if (release !== undefined) return release;
      if (group.port.now() >= deadline || this.isGivenUp)
        refuse(CKR.actionProhibited, 'another process is changing the PIN');
      yield* sleepUntil(Math.min(deadline, group.port.now() + LOOK_AGAIN));
    }
  }

  *#carryOut(): Task<PinReport> {
    const { group, options } = this;
    const { pins, port } = group;
    // Another process may have made a new member, or may be changing the PIN, just now.
    for (const member of holdersIn(group)) yield* learnRecord(group, member, this.deadline);
    yield* learnFromAll(group, port.now() + group.policy.hangAfter);
    yield* completePinChange(group);
    const next = pins.intern(this.next);
    const record = recordOf(group);
    const present = holdersIn(group);
    const away = record.members.filter(({ serial }) => !present.some((member) => member.serial === serial));
    const names = away.map(({ name }) => name);
    if (next === pins.current) {
      // What was interrupted, and is asked for again, was finished just now.
      if (pins.completedTo === next) return { changed: present.map(({ name }) => name), pending: names };
      throw new InputError('newPin', 'another PIN than the one of now', undefined);
    }
    if (pins.note !== undefined)
      refuse(
        CKR.actionProhibited,
        `the last change is not over for ${this.#namesOf(pins.note.missed)}: bring it back, or remove it`,
      );
    if (away.length > 0 && !options.pending)
      refuse(
        CKR.deviceRemoved,
        `every member has to be there, and ${names.join(', ')} is not: ${group.describeMembers()}`,
      );
    if (!present.some(({ isActive }) => isActive))
      refuse(CKR.deviceRemoved, `no member serves: ${group.describeMembers()}`);
    const former = pins.current;
    if (former === undefined || present.some(({ login }) => login.pin !== former))
      refuse(CKR.actionProhibited, 'members have different PINs already');
    const note: PinNote = {
      kind: 'pin',
      operation: hex(port.randomBytes(8)),
      state: 'changing',
      participants: present.flatMap(({ serial }) => serial ?? []),
      missed: away.map(({ serial }) => serial),
      writer: port.writer,
      time: group.nextTimestamp(),
      expires: port.wallNow() + Math.max(0, this.deadline - port.now()) + GRACE,
    };
    const pair: PinPair = { operation: note.operation, former, next };
    yield* this.#stage(present, note, pair);
    return yield* this.#turnAll(present, note, pair, names);
  }

  #namesOf(serials: readonly string[]): string {
    const members = this.group.ledger.record?.members ?? [];
    return serials.map((serial) => members.find((note) => note.serial === serial)?.name ?? serial).join(', ');
  }

  /** Every participant holds both PINs before the first one is changed. */
  *#stage(present: readonly Member[], note: PinNote, pair: PinPair): Task<void> {
    const { group } = this;
    const { pins } = group;
    pins.notice([note]);
    pins.learn(pair);
    const staged: Member[] = [];
    try {
      for (const member of present) {
        this.#checkTime();
        staged.push(member);
        yield* writeNote(group, member, note, pair);
      }
    } catch (error) {
      let isClear = true;
      for (const member of staged) if (!(yield* clearNotes(group, member, everything))) isClear = false;
      // What is left there is met again, and taken off: nothing was changed.
      if (isClear) pins.forget();
      throw error;
    }
  }

  #checkTime(): void {
    const { group, deadline } = this;
    if (this.isGivenUp) refuse(CKR.functionCanceled, 'the caller has given it up');
    if (group.port.now() >= deadline) refuse(CKR.functionCanceled, 'it was not done in time');
  }

  *#turnAll(present: readonly Member[], note: PinNote, pair: PinPair, away: readonly string[]): Task<PinReport> {
    const { group } = this;
    const { former, next } = pair;
    const begun: Member[] = [];
    try {
      for (const member of present) {
        this.#checkTime();
        begun.push(member);
        const { end, code, reason } = yield* changePinOn(group, member, former, next);
        if (end !== 'turned') throw new TokenError(code, 'C_SetPIN', reason, [], member.name);
      }
    } catch (error) {
      yield* this.#takeBack(begun, note, pair, error);
    }
    const changed = present.map(({ name }) => name);
    group.pins.current = next;
    yield* spreadPin(group, note, pair, next, note.missed);
    group.emit({ type: 'pin', what: 'changed', members: changed });
    if (away.length > 0) group.emit({ type: 'pin', what: 'pending', members: away });
    return { changed, pending: away };
  }

  *#takeBack(begun: readonly Member[], note: PinNote, pair: PinPair, error: unknown): Task<never> {
    const { group } = this;
    const { former, next } = pair;
    const missed: Member[] = [];
    const back: string[] = [];
    for (const member of [...begun].reverse()) {
      if (member.login.pin === former) continue;
      const isBack = member.login.pin === next && (yield* changePinOn(group, member, next, former)).end === 'turned';
      if (isBack) back.push(member.name);
      else missed.push(member);
    }
    const serials = missed.flatMap(({ serial }) => serial ?? []);
    yield* spreadPin(group, note, pair, former, serials);
    group.emit({ type: 'pin', what: 'rolled back', members: back });
    if (missed.length === 0) throw error;
    const names = missed.map(({ name }) => name);
    group.emit({ type: 'pin', what: 'pending', members: names });
    const { message } = error as Error;
    // A caller that gave it up has to hear that it was not all taken back.
    const isRefusal = error instanceof TokenError && error.code !== CKR.functionCanceled;
    const code = isRefusal ? error.code : CKR.deviceRemoved;
    return refuse(
      code,
      `${message}; ${names.join(', ')} may have the new PIN, and gets the old one back when it returns`,
    );
  }
}
