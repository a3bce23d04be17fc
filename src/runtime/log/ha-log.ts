import type { GroupEvent } from '../../core/base/event.js';
import type { LogConfig } from '../../core/configuration/configuration.js';
import { LogFile } from './log-file.js';

/** Number of waiting events that are written at once: a program with synchronous calls only has no event loop. */
const LONGEST_BATCH = 100;
/** Maximum number of events kept while the log cannot be written. */
const MOST_WAITING = 1000;
/** Interval between tries to write a log that could not be written (ms). */
const RETRY_AFTER = 1000;

// Shares one exit listener among all logs: Node.js warns of a leak above ten listeners.
const openLogs = new Set<HaLog>();

function flushAll(): void {
  for (const log of openLogs) log.flush();
}

interface Waiting {
  /** Time of the event, as Date.now() gave it (ms). */
  readonly wallTime: number;
  readonly event: GroupEvent | { readonly type: 'lost'; readonly events: number };
}

/**
 * Log of a group's events, as JSON lines in a file: `{"time":…,"group":…,"pid":…,"type":…,…}`. Lines are written
 * between calls, and the log keeps no process alive. If the file cannot be written, the log warns once and tries again.
 */
export class HaLog {
  readonly #config: LogConfig;
  readonly #group: string;
  readonly #file: LogFile;
  #waiting: Waiting[] = [];
  #lost: number = 0;
  #sinceTry: number = 0;
  #timer: NodeJS.Timeout | undefined;
  #isFailing: boolean = false;
  #hasWarned: boolean = false;
  #isClosed: boolean = false;

  /** Takes the group's label. Opens the file at the first event. */
  constructor(config: LogConfig, group: string) {
    this.#config = config;
    this.#group = group;
    this.#file = new LogFile(config, (error) => this.#warn('rotated', error));
  }

  /** Notes an event, at a time that Date.now() gave. Leaves out hosts' output, which may hold anything. */
  write(event: GroupEvent, wallTime: number): void {
    if (event.type === 'output' || this.#isClosed) return;
    if (openLogs.size === 0) process.on('exit', flushAll);
    openLogs.add(this);
    this.#waiting.push({ wallTime, event });
    if (this.#waiting.length > MOST_WAITING) {
      this.#waiting.shift();
      this.#lost += 1;
    }
    this.#sinceTry += 1;
    if (this.#sinceTry >= LONGEST_BATCH) this.flush();
    else this.#schedule();
  }

  /** Writes the waiting events now. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#sinceTry = 0;
    let written = 0;
    try {
      this.#tellLost();
      for (const waiting of this.#waiting) {
        this.#file.append(this.#lineOf(waiting));
        written += 1;
      }
      this.#isFailing = false;
    } catch (error) {
      this.#isFailing = true;
      this.#warn('written', error);
    }
    this.#waiting = this.#waiting.slice(written);
    if (this.#waiting.length > 0) this.#schedule();
  }

  /** Writes the waiting events and closes the file. Later events are left out. */
  close(): void {
    if (this.#isClosed) return;
    this.flush();
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#file.close();
    openLogs.delete(this);
    if (openLogs.size === 0) process.off('exit', flushAll);
  }

  /** Writes the number of lost events, before the first event after the gap. */
  #tellLost(): void {
    const wallTime = this.#waiting[0]?.wallTime;
    if (this.#lost === 0 || wallTime === undefined) return;
    this.#file.append(this.#lineOf({ wallTime, event: { type: 'lost', events: this.#lost } }));
    this.#lost = 0;
  }

  #lineOf({ wallTime, event }: Waiting): string {
    const time = new Date(wallTime).toISOString();
    return `${JSON.stringify({ time, group: this.#group, pid: process.pid, ...event })}\n`;
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => this.flush(), this.#isFailing ? RETRY_AFTER : 0).unref();
  }

  #warn(what: 'written' | 'rotated', error: unknown): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    process.emitWarning(
      `log.file: ${this.#config.file} cannot be ${what} (${code}); trying again, without another warning`,
    );
  }
}
