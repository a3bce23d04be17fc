import { FreeList } from '../../core/base/free-list.js';
import { type Alarm, FOREVER, type Running, type Task } from '../../core/base/task.js';
import { addon } from '../hosts/addon.js';
import type { HostProcess } from '../hosts/host.js';
import { monotonicNow } from './clock.js';
import { Scheduler } from './scheduler.js';

/**
 * How long a synchronous wait spins before it sleeps (µs): longer than short waits have been, and hardly at all where
 * even those take long. To sleep makes a wait longer: so it is the short ones that tell.
 */
const LONGEST_SPIN = 500;
const SHORTEST_SPIN = 50;
const GAIN_OF_SHORTER = 1 / 4;
const GAIN_OF_LONGER = 1 / 64;
const LONGEST_TIMER = 0x7fff_ffff;

/**
 * Drives the tasks of a group: the event loop steps them when a channel has something or time has come; a synchronous
 * call steps them itself until its own task is done. Before anything may be judged late, what has come is taken in
 * (Rule 2).
 */
export class Driver {
  /** Those whose channels are read. */
  readonly #hosts = new Set<HostProcess>();
  readonly #scheduler = new Scheduler(monotonicNow);
  #timer: NodeJS.Timeout | undefined;
  #timerAt: number = FOREVER;
  #calls: number = 0;
  /** How long short synchronous waits have been (µs). */
  #shortWait: number = SHORTEST_SPIN;
  /** Tasks that callers wait for. */
  readonly #awaited = new FreeList<Running<unknown>>();
  #idle: (() => void) | undefined;

  get hosts(): ReadonlySet<HostProcess> {
    return this.#hosts;
  }

  /** The tasks that callers wait for. */
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

  /** What a started task gives at its end; an aborted one rejects with the signal's reason. */
  resultOf<T>(running: Running<T>, signal?: AbortSignal): Promise<T> {
    // Not an async function, and one promise: this is what every call passes through.
    return new Promise<T>((resolve, reject) => {
      this.#stepDrained();
      if (running.completed) {
        this.setTimer();
        endPromise(running, resolve, reject);
        return;
      }
      const abort = (): void => {
        running.cancel(signal?.reason);
        this.move();
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.hold();
      const place = this.#awaited.add(running);
      const wake = (): void => {
        if (this.#awaited.at(place) !== running) return;
        this.#awaited.remove(place);
        signal?.removeEventListener('abort', abort);
        endPromise(running, resolve, reject);
        this.release();
      };
      running.add({ wake });
      this.setTimer();
    });
  }

  /** The same on this thread, with whatever the task depends on; the event loop waits meanwhile. */
  finish<T>(running: Running<T>): T {
    while (!running.completed) {
      this.#stepDrained();
      if (running.completed) break;
      const wait = Math.max(0, Math.min(this.#scheduler.dueAt - monotonicNow(), LONGEST_TIMER));
      this.#waitFor(wait);
      this.#drain();
    }
    // What the monitor has due gets its slice, since a synchronous program has no event loop to give it one.
    this.#stepDrained();
    this.setTimer();
    return endOf(running);
  }

  /** Something has come, or time has: steps the tasks and sees to being called again. */
  move(): void {
    this.#drain();
    this.#scheduler.step();
    this.setTimer();
  }

  /** Sees to being called when the next thing is due. */
  setTimer(): void {
    const { dueAt } = this.#scheduler;
    if (dueAt === this.#timerAt) return;
    // A timer that comes too early costs less than setting a new one for every call.
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

  /** Time does not step the tasks any more. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Only calls under way keep the process alive: an idle group does not. */
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

  /** Waits on this thread until something has come, or so long (ms). */
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

  /** Steps; and before anything that is due may be judged, takes in what has come. */
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
