import type { SecretRef } from '../../spec/job.js';
import type { SecretStore } from '../base/port.js';
import { Signal } from '../base/task.js';
import type { PinNote } from '../records/record.js';
import type { Member } from './member.js';

/** PINs of a change: the former and the next one. */
export interface PinPair {
  readonly operation: string;
  readonly former: SecretRef;
  readonly next: SecretRef;
}

/** Time for which a note may stand without its record: that of writing both, with room (ms). */
const UNPROVEN_FOR = 2000;

/** PINs of the members: the current one, and those of a change that is running. */
export class Pins {
  /** Newest PIN note of a change that is not over on every member. */
  note: PinNote | undefined;
  /** PINs of that change, or of the last one. */
  pair: PinPair | undefined;
  /** Changes that are over but whose notes still stand on a member: the operation, by the member's serial. */
  readonly uncleared: Map<string, string> = new Map<string, string>();
  /** True while a task of this process changes the PIN; no other task completes the change then. */
  isBusy: boolean = false;
  /** PIN to which this process has brought the members after an interrupted change. */
  completedTo: SecretRef | undefined;
  /** PINs that an application gave in vain; a task that still holds such a PIN does not try it. */
  readonly takenBack: WeakSet<SecretRef> = new WeakSet<SecretRef>();
  /** Fires when the note or the pair changes. */
  readonly changed: Signal = new Signal();

  readonly #store: SecretStore;

  constructor(
    /** Current PIN; undefined: no login. */
    public current: SecretRef | undefined,
    store: SecretStore,
  ) {
    this.#store = store;
  }

  /** Returns the secret in use that equals a new one, which is then wiped; else the new one. */
  intern(secret: SecretRef): SecretRef {
    for (const known of this.#known()) {
      if (known === secret) return known;
      if (!this.#store.areEqual(known, secret)) continue;
      this.#store.wipe(secret);
      return known;
    }
    return secret;
  }

  /** True if a note was read that may be newer than the known one: tokens with a login are to be asked about it. */
  isHeard: boolean = false;

  /**
   * Returns true if a note has stood without a private record for a while. Otherwise has the tokens asked again. `now` in
   * ms of the port's clock.
   */
  isLeftOver(note: string, now: number): boolean {
    const since = this.#unproven.get(note) ?? now;
    this.#unproven.set(note, since);
    if (now - since >= UNPROVEN_FOR) {
      this.#unproven.delete(note);
      return true;
    }
    this.isHeard = true;
    this.changed.fire();
    return false;
  }

  /** Times at which notes were first seen without a private record, by member, operation and time. */
  readonly #unproven = new Map<string, number>();

  /** Takes PIN notes that were read without a look at their private records: anybody can have written them (Rule 18). */
  hear(notes: readonly PinNote[]): void {
    if (this.isHeard || !notes.some(({ time }) => time > (this.note?.time ?? -1))) return;
    this.isHeard = true;
    this.changed.fire();
  }

  /** Takes PIN notes with private records; the newest counts. */
  notice(notes: readonly PinNote[]): void {
    for (const note of notes) {
      if (this.note !== undefined && this.note.time >= note.time) continue;
      this.note = note;
      this.changed.fire();
    }
  }

  /** Takes the PINs of a change. */
  learn(pair: PinPair): void {
    this.pair = pair;
    this.changed.fire();
  }

  /** Forgets the note of a change that is over on every member; keeps its PINs. */
  forget(): void {
    if (this.note === undefined) return;
    this.note = undefined;
    this.changed.fire();
  }

  /** Returns true if notes of a change that is over stand on a member, and the running change will not remove them. */
  isUncleared(serial: string | undefined): boolean {
    const operation = this.uncleared.get(serial ?? '');
    return operation !== undefined && !(operation === this.note?.operation && this.note.state === 'changing');
  }

  /** PINs of the change that the note tells of; undefined if they are not known. */
  get pairOfNote(): PinPair | undefined {
    return this.pair !== undefined && this.pair.operation === this.note?.operation ? this.pair : undefined;
  }

  /** Returns the PIN that a login tries first; undefined: no login. */
  firstFor({ login: { trialPin, pin }, serial }: Member): SecretRef | undefined {
    if (this.current === undefined) return undefined;
    if (trialPin !== undefined) return trialPin;
    if (pin !== undefined) return pin;
    const hasMissed = serial !== undefined && this.note?.state === 'pending' && this.note.missed.includes(serial);
    return (hasMissed ? this.pairOfNote?.former : undefined) ?? this.current;
  }

  /** Returns the PIN that a login may try once after a refusal; undefined if there is none. */
  otherFor({ login: { trialPin, refusedPins } }: Member): SecretRef | undefined {
    if (trialPin !== undefined) return undefined;
    return this.#known().find((secret) => !refusedPins.has(secret));
  }

  /** Wipes those of the PINs that are not in use. */
  wipeUnless(secrets: readonly SecretRef[]): void {
    const known = this.#known();
    for (const secret of secrets) if (!known.includes(secret)) this.#store.wipe(secret);
  }

  /** Wipes the PINs of the last change, but the current one. */
  wipeFormer(): void {
    const { pair, current } = this;
    this.pair = undefined;
    if (pair === undefined) return;
    for (const secret of [pair.former, pair.next]) if (secret !== current) this.#store.wipe(secret);
  }

  #known(): SecretRef[] {
    const { current, pair } = this;
    return [current, pair?.next, pair?.former].filter((secret) => secret !== undefined);
  }
}
