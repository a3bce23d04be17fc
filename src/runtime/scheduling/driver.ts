import { FreeList } from '../../core/base/free-list.js';
import { type Alarm, FOREVER, type Running, type Task } from '../../core/base/task.js';
import { addon } from '../hosts/addon.js';
import type { HostProcess } from '../hosts/host.js';
import { AbortListeners } from './abort-listeners.js';
import { monotonicNow } from './clock.js';
import { Scheduler } from './scheduler.js';

/** Spin of a synchronous wait before the thread sleeps (µs): sleeping makes a short wait longer. */
const LONGEST_SPIN = 500;
/** Spin before the thread sleeps if short waits take more than half the longest spin (µs). */
const SHORTEST_SPIN = 50;
/** Share of a shorter wait in the running estimate: short waits show what is possible, so they count more. */
const GAIN_OF_SHORTER = 1 / 4;
/** Share of a longer wait in the running estimate. */
const GAIN_OF_LONGER = 1 / 64;
/** Longest delay that setTimeout takes (ms). */
const LONGEST_TIMER = 0x7fff_ffff;

/**
 * Drives the tasks of a group. The event loop steps them when a channel has a message or a time is due; a synchronous
 * call steps them itself until its own task has ended. Channels are drained before anything is judged late (Rule 2).
 */
export class Driver {
  /** Hosts whose channels are read. */
  readonly #hosts = new Set<HostProcess>();
  readonly #scheduler = new Scheduler(monotonicNow);
  #timer: NodeJS.Timeout | undefined;
  #timerAt: number = FOREVER;
  #calls: number = 0;
  /** Running estimate of a short synchronous wait (µs). */
  #shortWait: number = SHORTEST_SPIN;
  /** Started tasks that callers wait for. */
  readonly #awaited = new FreeList<Running<unknown>>();
  readonly #aborts = new AbortListeners();
  #idle: (() => void) | undefined;

  get hosts(): ReadonlySet<HostProcess> {
    return this.#hosts;
  }

  /** Lists the tasks that callers wait for. */
  awaited(): Running<unknown>[] {
    return [...this.#awaited.all()];
  }

  add(host: HostProcess): void {
    this.#hosts.add(host);
    if (this.#calls > 0) host.channel.ref();
  }

  remove(host: HostProcess): void {
    this.#hosts.delete(host);
  }

  start<T>(task: Task<T>): Running<T> {
    return this.#scheduler.start(task);
  }

  alarm(): Alarm {
    return this.#scheduler.alarm();
  }

  /** See `Port.deferAbort`. */
  deferAbort(decide: () => boolean): () => void {
    return this.#scheduler.deferAbort(decide);
  }

  /** Resolves with the result of a started task; if the signal aborts, cancels the task and rejects with its reason. */
  resultOf<T>(running: Running<T>, signal?: AbortSignal): Promise<T> {
    // Creates one promise and no async function: every call passes through this code.
    return new Promise<T>((resolve, reject) => {
      this.#stepDrained();
      if (running.completed) {
        this.setTimer();
        endPromise(running, resolve, reject);
        return;
      }
      const abort = (): void => {
        running.abort(signal?.reason);
        this.move();
      };
      const forgetSignal = signal === undefined ? undefined : this.#aborts.add(signal, abort);
      this.hold();
      const index = this.#awaited.add(running);
      const wake = (): void => {
        if (this.#awaited.at(index) !== running) return;
        this.#awaited.remove(index);
        forgetSignal?.();
        endPromise(running, resolve, reject);
        this.release();
      };
      running.add({ wake });
      this.setTimer();
    });
  }

  /** Steps all tasks on this thread until a started task has ended, and returns its result; the event loop waits. */
  finish<T>(running: Running<T>): T {
    while (!running.completed) {
      this.#stepDrained();
      if (running.completed) break;
      const wait = Math.max(0, Math.min(this.#scheduler.dueAt - monotonicNow(), LONGEST_TIMER));
      this.#waitFor(wait);
      this.#drain();
    }
    // Steps background tasks that are due: a synchronous program has no event loop to step them.
    this.#stepDrained();
    this.setTimer();
    return endOf(running);
  }

  /** Drains the channels, steps the tasks, and sets the timer for the next due time. */
  move(): void {
    this.#drain();
    this.#scheduler.step();
    this.setTimer();
  }

  /** Sets the timer for the next due time. */
  setTimer(): void {
    const { dueAt } = this.#scheduler;
    if (dueAt === this.#timerAt) return;
    // Keeps a timer that fires too early: setting a new one for every call costs more.
    if (this.#timer !== undefined && this.#timerAt <= dueAt) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerAt = dueAt;
    if (dueAt === FOREVER) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#timerAt = FOREVER;
        this.move();
      },
      Math.min(LONGEST_TIMER, Math.max(0, dueAt - monotonicNow())),
    );
    if (this.#calls === 0) this.#timer.unref();
  }

  /** Stops the timer; time no longer steps the tasks. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Keeps the process alive while a call is under way; an idle group does not. */
  hold(): void {
    this.#calls += 1;
    if (this.#calls > 1) return;
    for (const host of this.#hosts) host.channel.ref();
    this.#timer?.ref();
  }

  release(): void {
    this.#calls -= 1;
    if (this.#calls > 0) return;
    for (const host of this.#hosts) host.channel.unref();
    this.#timer?.unref();
    this.#idle?.();
  }

  /** Resolves when no call is under way. */
  async idle(): Promise<void> {
    if (this.#calls === 0) return;
    await new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
  }

  /** Waits on this thread until a channel is readable, for at most `time` (ms). */
  #waitFor(time: number): void {
    const startedAt = monotonicNow();
    const channels = [...this.#hosts].map((host) => host.channel);
    addon.waitReadable(channels, time, this.#shortWait > LONGEST_SPIN / 2 ? SHORTEST_SPIN : LONGEST_SPIN);
    const change = (monotonicNow() - startedAt) * 1000 - this.#shortWait;
    this.#shortWait += change * (change < 0 ? GAIN_OF_SHORTER : GAIN_OF_LONGER);
  }

  #drain(): void {
    for (const host of [...this.#hosts]) host.drain();
  }

  /** Steps the tasks. If something is due, drains the channels first (Rule 2). */
  #stepDrained(): void {
    if (this.#scheduler.dueAt <= monotonicNow()) this.#drain();
    this.#scheduler.step();
  }
}

function endPromise<T>(running: Running<T>, resolve: (value: T) => void, reject: (error: unknown) => void): void {
  const { ended } = running;
  if (ended?.ok === true) resolve(ended.value);
  else reject(ended?.error);
}

function endOf<T>(running: Running<T>): T {
  const { ended } = running;
  if (ended === undefined) throw new Error('the task has not ended');
  if (!ended.ok) throw ended.error;
  return ended.value;
}
