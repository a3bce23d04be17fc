import { CKR } from '../../spec/codes.js';
import { InputError } from '../../spec/input.js';
import type { SecretRef } from '../../spec/job.js';
import { recordOf } from '../administration/membership.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { awaitResult } from '../base/waiting.js';
import type { HeldClaim } from '../coordination/coordinator.js';
import { holderOf, takeClaim, whileClaimed } from '../group/claimed-work.js';
import { awaitComing, isComing } from '../group/coming.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { PinPair } from '../group/pins.js';
import { learnFromAll } from '../joining/pin-record.js';
import { hex } from '../objects/note.js';
import type { PinNote } from '../records/record.js';
import { learnRecord } from '../wrapping/group-record-reading.js';
import { changePinOn } from './member-pin-change.js';
import { completePinChange, spreadPin } from './pin-change-completion.js';
import { clearNotes, everything, holdersIn, writeNote } from './pin-notes.js';

/** Time after the deadline of a change during which other processes leave that change alone (ms). */
const GRACE = 60_000;
/** Multiple of `hangAfter` for which members that are slow meanwhile are waited for, with the claim held. */
const SLOW_MULTIPLE = 3;

/** Options of `changePin`. */
interface PinOptions {
  /** True if members that are away get the new PIN when they return; false if every member must be in service. */
  readonly pending: boolean;
  /** Returns true if the caller gives up; asked before each member is changed. */
  readonly isUnwanted?: () => boolean;
}

/** Result of `changePin`. */
export interface PinReport {
  /** Members that have the new PIN. */
  readonly changed: readonly string[];
  /** Members that get the new PIN when they return. */
  readonly pending: readonly string[];
}

function refuse(code: number, explanation: string): never {
  throw new TokenError(code, 'C_SetPIN', explanation);
}

/**
 * Gives a new PIN to all members or to none. The change goes on without its caller: if the caller leaves in the middle,
 * the members get the former PIN back.
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

/** Change of the PIN on all members. */
class PinChange {
  readonly #group: Group;
  readonly #next: SecretRef;
  readonly #options: PinOptions;
  readonly #deadline: number;
  /** True once the caller has left. */
  isAbandoned = false;

  constructor(group: Group, next: SecretRef, options: PinOptions, deadline: number) {
    this.#group = group;
    this.#next = next;
    this.#options = options;
    this.#deadline = deadline;
  }

  #isGivenUp(): boolean {
    return this.isAbandoned || this.#options.isUnwanted?.() === true;
  }

  *run(): Task<PinReport> {
    const group = this.#group;
    const { pins } = group;
    // Waits before the claim, so that no other work of the group waits too.
    if (!this.#options.pending) yield* awaitComing(group, group.members, this.#deadline, () => this.#isGivenUp());
    const claim = yield* this.#claim();
    pins.isBusy = true;
    try {
      return yield* whileClaimed(group, [claim], this.#carryOut());
    } finally {
      pins.isBusy = false;
      // Keep the current PIN only: later logins use that one.
      if (pins.note === undefined) pins.wipeFormer();
      pins.wipeUnless([this.#next]);
      claim.release();
      pins.changed.fire();
    }
  }

  *#claim(): Task<HeldClaim> {
    const group = this.#group;
    recordOf(group);
    if (group.pin === undefined) refuse(CKR.userNotLoggedIn, 'the configuration has no PIN');
    const isGivenUp = (): boolean => this.#isGivenUp();
    const claim = yield* takeClaim(group, 'pin', this.#deadline, isGivenUp);
    const holder = holderOf(group, 'pin') ?? 'another process';
    return claim ?? refuse(CKR.actionProhibited, `${holder} is changing the PIN`);
  }

  *#carryOut(): Task<PinReport> {
    const group = this.#group;
    const { pins, port } = group;
    yield* this.#readAll();
    const next = pins.intern(this.#next);
    const record = recordOf(group);
    const present = holdersIn(group);
    const away = record.members.filter(({ serial }) => !present.some((member) => member.serial === serial));
    const names = away.map(({ name }) => name);
    if (next === pins.current) {
      // The call repeats a change that was interrupted, and that was completed just above.
      if (pins.completedTo === next) return { changed: present.map(({ name }) => name), pending: names };
      throw new InputError('newPin', 'a PIN other than the current one', undefined);
    }
    if (pins.note !== undefined)
      refuse(
        CKR.actionProhibited,
        `the last PIN change is not finished on ${this.#namesOf(pins.note.missed)}: recover or remove that member first`,
      );
    if (away.length > 0 && !this.#options.pending)
      refuse(CKR.deviceRemoved, `not every member is in service (${names.join(', ')}): ${group.describeMembers()}`);
    if (!present.some(({ isActive }) => isActive))
      refuse(CKR.deviceRemoved, `no member serves: ${group.describeMembers()}`);
    const former = pins.current;
    if (former === undefined || present.some(({ login }) => login.pin !== former))
      refuse(CKR.actionProhibited, 'the members have different PINs');
    const note: PinNote = {
      kind: 'pin',
      operation: hex(port.randomBytes(8)),
      state: 'changing',
      participants: present.flatMap(({ serial }) => serial ?? []),
      missed: away.map(({ serial }) => serial),
      writer: group.coordinator.writer,
      time: group.nextTimestamp(),
      expires: port.wallNow() + Math.max(0, this.#deadline - port.now()) + GRACE,
    };
    const pair: PinPair = { operation: note.operation, former, next };
    yield* this.#writeNotes(present, note, pair);
    return yield* this.#changeAll(present, note, pair, names);
  }

  /**
   * Reads the records and PIN notes of all members, and completes an earlier change. If every member must be in
   * service, reads once more after a member that was a suspect meanwhile: one that is only slow is waited for.
   */
  *#readAll(): Task<void> {
    const group = this.#group;
    const { port, policy } = group;
    const until = Math.min(this.#deadline, port.now() + policy.hangAfter * SLOW_MULTIPLE);
    for (;;) {
      // Another process may have added a member or changed the PIN since the records were read.
      for (const member of holdersIn(group)) yield* learnRecord(group, member, this.#deadline);
      yield* learnFromAll(group, port.now() + policy.hangAfter);
      yield* completePinChange(group);
      if (this.#options.pending || port.now() >= until || !group.members.some(isComing)) return;
      yield* awaitComing(group, group.members, until, () => this.#isGivenUp());
      this.#checkTime();
    }
  }

  #namesOf(serials: readonly string[]): string {
    const members = this.#group.ledger.record?.members ?? [];
    return serials.map((serial) => members.find((note) => note.serial === serial)?.name ?? serial).join(', ');
  }

  /** Writes the note with both PINs on every participant, before the first PIN is changed. */
  *#writeNotes(present: readonly Member[], note: PinNote, pair: PinPair): Task<void> {
    const group = this.#group;
    const { pins } = group;
    pins.notice([note]);
    pins.learn(pair);
    const noted: Member[] = [];
    try {
      for (const member of present) {
        this.#checkTime();
        noted.push(member);
        yield* writeNote(group, member, note, pair);
      }
    } catch (error) {
      let isClear = true;
      for (const member of noted) if (!(yield* clearNotes(group, member, everything))) isClear = false;
      // Without success the note stays known, and is removed later: no PIN was changed.
      if (isClear) pins.forget();
      throw error;
    }
  }

  #checkTime(): void {
    if (this.#isGivenUp()) refuse(CKR.functionCanceled, 'the caller gave up the PIN change');
    if (this.#group.port.now() >= this.#deadline)
      refuse(CKR.functionCanceled, 'the PIN change did not finish before the deadline');
  }

  *#changeAll(present: readonly Member[], note: PinNote, pair: PinPair, away: readonly string[]): Task<PinReport> {
    const group = this.#group;
    const { former, next } = pair;
    const begun: Member[] = [];
    try {
      for (const member of present) {
        this.#checkTime();
        begun.push(member);
        const { end, code, reason } = yield* changePinOn(group, member, former, next);
        if (end !== 'changed') throw new TokenError(code, 'C_SetPIN', reason, [], member.name);
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

  /** Gives the members that were changed the former PIN back, and throws the error. */
  *#takeBack(begun: readonly Member[], note: PinNote, pair: PinPair, error: unknown): Task<never> {
    const group = this.#group;
    const { former, next } = pair;
    const missed: Member[] = [];
    const back: string[] = [];
    for (const member of [...begun].reverse()) {
      if (member.login.pin === former) continue;
      const isBack = member.login.pin === next && (yield* changePinOn(group, member, next, former)).end === 'changed';
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
    // A caller that gave up must hear that not every member has the former PIN: the code is not that of a cancellation.
    const isRefusal = error instanceof TokenError && error.code !== CKR.functionCanceled;
    const code = isRefusal ? error.code : CKR.deviceRemoved;
    return refuse(
      code,
      `${message}; ${names.join(', ')} may have the new PIN, and gets the former PIN back when it returns`,
    );
  }
}
