import { FOREVER, type Signal } from '../../src/core/base/task.js';
import type { CallName } from '../../src/spec/calls.js';
import type { Chance } from './chance.js';
import type { CallFault, FleetApplication, FleetHost } from './parts.js';
import { SimulatedToken } from './simulated-token.js';

/** Longest time of a step on a token (ms). */
const SLOWEST = 2;
/** Maximum number of events in one run, against runs that never end. */
const MOST_EVENTS = 2_000_000;

/** Time after which the claims of an application that stands still can be taken (ms), as in claim-file.ts. */
export const CLAIM_LIFETIME = 6000;

interface HeldName {
  readonly application: FleetApplication;
  readonly lost: Signal;
}

interface Coming {
  readonly at: number;
  readonly order: number;
  readonly happen: () => void;
}

/** Virtual clock, the tokens, and what is to happen. */
export class Fleet {
  now = 0;
  readonly tokens: Map<string, SimulatedToken> = new Map<string, SimulatedToken>();
  readonly applications: Set<FleetApplication> = new Set<FleetApplication>();
  /** Chooses the fault at a call; undefined lets the call pass. */
  choose: (host: FleetHost, call: CallName) => CallFault | undefined = () => undefined;
  readonly #away = new Set<string>();
  #coming: Coming[] = [];
  #order = 0;
  #pid = 100;

  constructor(readonly chance: Chance) {}

  nextPid(): number {
    this.#pid += 1;
    return this.#pid;
  }

  /** Returns the duration of a step (ms). */
  latency(): number {
    return 0.05 + this.chance.next() * SLOWEST;
  }

  faultAt(host: FleetHost, call: CallName): CallFault | undefined {
    return this.choose(host, call);
  }

  /** Sets whether a member's library can be loaded. */
  setAway(member: string, isAway: boolean): void {
    if (isAway) this.#away.add(member);
    else this.#away.delete(member);
  }

  isAway(member: string): boolean {
    return this.#away.has(member);
  }

  tokenOf(member: string): SimulatedToken {
    const token = this.tokens.get(member);
    if (token === undefined) throw new Error(`no member ${member}`);
    return token;
  }

  addToken(member: string): void {
    this.tokens.set(member, new SimulatedToken(`serial ${member}`));
  }

  after(ms: number, happen: () => void): void {
    const coming = { at: this.now + ms, order: this.#order, happen };
    this.#order += 1;
    // Sorted by time, then by order of arrival.
    let low = 0;
    let high = this.#coming.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#coming[middle] as Coming;
      if (other.at > coming.at) low = middle + 1;
      else high = middle;
    }
    this.#coming.splice(low, 0, coming);
  }

  /** Lets time pass, event by event, until a condition holds; returns false if it does not within a time (ms). */
  until(holds: () => boolean, within: number): boolean {
    const end = this.now + within;
    for (let events = 0; ; events += 1) {
      if (events > MOST_EVENTS) throw new Error('the run never ends');
      for (const application of this.applications) application.step();
      if (holds()) return true;
      const next = this.#coming.at(-1);
      const due = Math.min(next?.at ?? FOREVER, ...[...this.applications].map(({ dueAt }) => dueAt));
      if (due > end) {
        this.now = end;
        return holds();
      }
      this.now = Math.max(this.now, due);
      while ((this.#coming.at(-1)?.at ?? FOREVER) <= this.now) this.#coming.pop()?.happen();
    }
  }

  /** Lets a time pass (ms). */
  pass(ms: number): void {
    this.until(() => false, ms);
  }
}

/** Machine: what its applications share by lock files. */
export class SimulatedMachine {
  readonly #claims = new Map<string, HeldName>();
  readonly #fences = new Map<string, number>();
  readonly #missed = new Map<string, Set<string>>();
  readonly #tokenLocks = new Map<string, FleetHost>();
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #hosts = new Map<FleetHost, FleetApplication>();
  #notes = 0;

  constructor(readonly fleet: Fleet) {}

  living(): readonly FleetApplication[] {
    return [...this.fleet.applications].filter(({ machine, isAlive }) => machine === this && isAlive);
  }

  /** Takes a claim; returns its fence, or undefined if another application, or its host, still holds it. */
  take(name: string, application: FleetApplication, lost: Signal): number | undefined {
    if (this.holderOf(name) !== undefined) return undefined;
    const fence = (this.#fences.get(name) ?? 0) + 1;
    this.#fences.set(name, fence);
    this.#claims.set(name, { application, lost });
    return fence;
  }

  /**
   * Returns the holder of a claim: an application that lives, or whose hosts have not ended. The claim of one that stands
   * still is lost after a while, but not while a host of it writes.
   */
  holderOf(name: string): FleetApplication | undefined {
    const held = this.#claims.get(name);
    if (held === undefined) return undefined;
    const { application, lost } = held;
    const { standsSince = this.fleet.now } = application;
    const isExpired = this.fleet.now - standsSince >= CLAIM_LIFETIME && !this.#isWriting(application);
    if (!isExpired && this.isThere(application.writer)) return application;
    this.#claims.delete(name);
    application.tell(() => lost.complete());
    return undefined;
  }

  #isWriting(application: FleetApplication): boolean {
    return [...this.#hosts].some(([host, each]) => each === application && host.isWriting);
  }

  release(name: string, lost: Signal): void {
    if (this.#claims.get(name)?.lost !== lost) return;
    this.#claims.delete(name);
    for (const each of this.living()) each.tell(() => each.coordinator.releases.fire());
  }

  /** Returns true if an application or one of its hosts lives. */
  isThere(writer: string): boolean {
    return this.living().some((each) => each.writer === writer) || this.isEnding(writer);
  }

  /** Returns true if an application has ended, and a host of it has not. */
  isEnding(writer: string): boolean {
    return [...this.#hosts.values()].some((each) => each.writer === writer && !each.isAlive);
  }

  hostStarted(host: FleetHost, application: FleetApplication): void {
    this.#hosts.set(host, application);
  }

  hostEnded(host: FleetHost): void {
    this.#hosts.delete(host);
  }

  /** Locks a token for a host's write; if another host has the lock, calls `again` when it is free. */
  lockToken(serial: string, host: FleetHost, again: () => void): boolean {
    const holder = this.#tokenLocks.get(serial);
    if (holder === undefined || holder === host) {
      this.#tokenLocks.set(serial, host);
      return true;
    }
    const waiting = this.#waiting.get(serial) ?? new Set();
    this.#waiting.set(serial, waiting.add(again));
    return false;
  }

  freeToken(serial: string, host: FleetHost): void {
    if (this.#tokenLocks.get(serial) !== host) return;
    this.#tokenLocks.delete(serial);
    const waiting = this.#waiting.get(serial) ?? new Set();
    this.#waiting.delete(serial);
    for (const again of waiting) this.fleet.after(0, again);
  }

  noteMissed(serial: string): void {
    this.#notes += 1;
    this.#missed.set(serial, (this.#missed.get(serial) ?? new Set()).add(`note ${this.#notes}`));
  }

  missedBy(serial: string): readonly string[] {
    return [...(this.#missed.get(serial) ?? [])];
  }

  forgetMissed(serial: string, notes: readonly string[]): void {
    for (const note of notes) this.#missed.get(serial)?.delete(note);
  }
}
