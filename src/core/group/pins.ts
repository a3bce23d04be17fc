import type { SecretRef } from '../../spec/job.js';
import type { SecretStore } from '../base/port.js';
import { Signal } from '../base/task.js';
import type { PinNote } from '../records/record.js';
import type { Member } from './member.js';

/** The two PINs of a change. */
export interface PinPair {
  readonly operation: string;
  readonly former: SecretRef;
  readonly next: SecretRef;
}

/** The PIN of the members, and the one that some may have instead while it is being changed. */
export class Pins {
  /** What the members' records say of a change that is not over everywhere. */
  note: PinNote | undefined;
  /** The PINs of that change, or of the last one. */
  pair: PinPair | undefined;
  /** Members, by serial, that still have notes of an operation that is over. */
  readonly uncleared: Map<string, string> = new Map<string, string>();
  /** This process is changing it: nobody else here puts it in order. */
  isBusy: boolean = false;
  /** What an interrupted change was brought to in this process. */
  completedTo: SecretRef | undefined;
  /** PINs of the application that came to nothing: whoever still holds one tries it no more. */
  readonly takenBack: WeakSet<SecretRef> = new WeakSet<SecretRef>();
  /** Fires when more is known than before. */
  readonly changed: Signal = new Signal();

  constructor(
    public current: SecretRef | undefined,
    private readonly store: SecretStore,
  ) {}

  /** The one of equal PINs that is in use already; the other is wiped. */
  intern(secret: SecretRef): SecretRef {
    for (const known of this.#known()) {
      if (known === secret) return known;
      if (!this.store.areEqual(known, secret)) continue;
      this.store.wipe(secret);
      return known;
    }
    return secret;
  }

  /** A note was read on a member; the newest counts. */
  notice(notes: readonly PinNote[]): void {
    for (const note of notes) {
      if (this.note !== undefined && this.note.time >= note.time) continue;
      this.note = note;
      this.changed.fire();
    }
  }

  /** The PINs of the change were read. */
  learn(pair: PinPair): void {
    this.pair = pair;
    this.changed.fire();
  }

  /** The change is over everywhere; its PINs are still known. */
  forget(): void {
    if (this.note === undefined) return;
    this.note = undefined;
    this.changed.fire();
  }

  /** Whether a member has notes of what is over, that nobody else takes off it. */
  isUncleared(serial: string | undefined): boolean {
    const operation = this.uncleared.get(serial ?? '');
    return operation !== undefined && !(operation === this.note?.operation && this.note.state === 'changing');
  }

  /** The PINs of the change that is under way; undefined where they are not known. */
  get pairOfNote(): PinPair | undefined {
    return this.pair !== undefined && this.pair.operation === this.note?.operation ? this.pair : undefined;
  }

  /** What a login is tried with first. */
  firstFor({ login: { trialPin, pin }, serial }: Member): SecretRef | undefined {
    if (this.current === undefined) return undefined;
    if (trialPin !== undefined) return trialPin;
    if (pin !== undefined) return pin;
    const hasMissed = serial !== undefined && this.note?.state === 'pending' && this.note.missed.includes(serial);
    return (hasMissed ? this.pairOfNote?.former : undefined) ?? this.current;
  }

  /** What may be tried once when the first was refused. */
  otherFor({ login: { trialPin, refusedPins } }: Member): SecretRef | undefined {
    if (trialPin !== undefined) return undefined;
    return this.#known().find((secret) => !refusedPins.has(secret));
  }

  /** Wipes PINs that are none of those in use. */
  wipeUnless(secrets: readonly SecretRef[]): void {
    const known = this.#known();
    for (const secret of secrets) if (!known.includes(secret)) this.store.wipe(secret);
  }

  /** Wipes the PINs of former changes that no login can need any more. */
  wipeFormer(): void {
    const { pair, current, store } = this;
    this.pair = undefined;
    if (pair === undefined) return;
    for (const secret of [pair.former, pair.next]) if (secret !== current) store.wipe(secret);
  }

  #known(): SecretRef[] {
    const { current, pair } = this;
    return [current, pair?.next, pair?.former].filter((secret) => secret !== undefined);
  }
}
