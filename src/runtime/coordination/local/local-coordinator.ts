import { closeSync, constants, type FSWatcher, openSync, utimesSync, watch, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Running, Signal, type Task } from '../../../core/base/task.js';
import { race, sleepUntil } from '../../../core/base/waiting.js';
import type { Claim, ClaimOptions, Coordinator } from '../../../core/coordination/coordinator.js';
import type { SecretRef } from '../../../spec/job.js';
import { addon, type NativeSecret } from '../../hosts/addon.js';
import { monotonicNow } from '../../scheduling/clock.js';
import { type ClaimFile, ClaimFolder, LIFETIME } from './claim-file.js';
import { fileNameOf, ID, LockFolder } from './lock-folder.js';
import { MissedNotes } from './missed-notes.js';
import { RefusedPins } from './refused-pins.js';
import { WriterFile } from './writer-file.js';

/** Interval between tries to take a claim that another process holds (ms); news make it shorter. */
const CLAIM_POLL = 50;
/** Interval between renewals of the claims that this process holds (ms). */
const RENEWAL_INTERVAL = LIFETIME / 3;
/** Interval at which lasting files get a new time (ms). */
const TOUCH_INTERVAL = 3_600_000;
/** Time beyond the longest write for which hosts are waited for after their claim has expired (ms). */
const WORK_GRACE = 5000;

/** File that is touched when records have changed. */
const NEWS = 'news';
/** File that is touched when a claim was released. */
const RELEASES = 'releases';
/** Folder of the files that hosts lock while they write, one a token. */
const TOKENS = 'tokens';

/** Services of the process around a coordinator. */
interface CoordinatorSurroundings {
  start<T>(task: Task<T>): Running<T>;
  /** Steps the tasks. */
  moved(): void;
  /** Longest time that a host's write may take (ms). */
  longestWrite(): number;
  /** Reports a problem that an operator must know. */
  report(problem: string): void;
}

/** Claim of a name by lock files. */
class LocalClaim implements Claim {
  readonly lost: Signal = new Signal();

  constructor(
    readonly name: string,
    readonly file: ClaimFile,
    /** Descriptor of the claim that former versions take; undefined without one. */
    readonly former: number | undefined,
    readonly released: (claim: LocalClaim) => void,
  ) {}

  get fence(): number {
    return this.file.fence;
  }

  get path(): string {
    return this.file.path;
  }

  // Reckoned anew each time: while the machine is suspended, only CLOCK_BOOTTIME goes on.
  get expiresAt(): number {
    return this.lost.completed ? Number.NEGATIVE_INFINITY : monotonicNow() + this.file.expires - addon.bootTime();
  }

  release(): void {
    this.released(this);
  }
}

/** Coordinator of the processes of one machine, by lock files in a folder of the group. */
export class LocalCoordinator implements Coordinator {
  readonly news: Signal = new Signal();
  readonly releases: Signal = new Signal();
  readonly locks: LockFolder;
  readonly #writerFile: WriterFile;
  readonly #missed: MissedNotes;
  readonly #refused: RefusedPins;
  readonly #surroundings: CoordinatorSurroundings;
  readonly #claims = new Set<LocalClaim>();
  #watcher: FSWatcher | undefined;
  #renewing: Running<void> | undefined;
  #problem: string | undefined;
  readonly #touching: NodeJS.Timeout;
  /** Paths of the files that stay while the group is used. */
  readonly #lasting = new Set<string>();

  /** Opens the lock folder of a group; throws ConfigurationError if the folder that is configured cannot be used. */
  constructor(setting: string | undefined, label: string, surroundings: CoordinatorSurroundings) {
    this.locks = LockFolder.open(setting, label);
    this.#surroundings = surroundings;
    this.#problem = this.locks.problem;
    this.#writerFile = new WriterFile(this.locks);
    this.#missed = new MissedNotes(this.locks);
    this.#refused = new RefusedPins(this.locks);
    this.#watch();
    for (const name of [ID, NEWS, RELEASES]) this.#lasting.add(join(this.locks.path, name));
    this.#lasting.add(this.writerPath);
    this.#touching = setInterval(() => this.#touchLasting(), TOUCH_INTERVAL).unref();
  }

  get writer(): string {
    return this.#writerFile.writer;
  }

  get writerPath(): string {
    return this.#writerFile.path;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  *claim(name: string, { deadline, isGivenUp, formerName }: ClaimOptions): Task<Claim | undefined> {
    for (;;) {
      const claim = this.#take(name, formerName);
      if (claim !== undefined || monotonicNow() >= deadline || isGivenUp?.() === true) return claim;
      yield* race([this.releases], Math.min(deadline, monotonicNow() + CLAIM_POLL));
    }
  }

  holderOf(name: string, formerName?: string): string | undefined {
    const holder = new ClaimFolder(this.locks, fileNameOf(name)).holder();
    if (holder !== undefined || formerName === undefined) return holder;
    const descriptor = addon.claim(formerName);
    if (descriptor < 0) return 'a process of a former version';
    addon.releaseClaim(descriptor);
    return undefined;
  }

  isWriterGone(writer: string): boolean | undefined {
    if (this.#writerFile.isRival(writer) && this.#problem === undefined) {
      this.#problem = `another process of this machine uses another lock folder than ${this.locks.path}: give both the same setting locks`;
      this.#surroundings.report(this.#problem);
    }
    return this.#writerFile.isGone(writer);
  }

  isWriterEnding(writer: string): boolean {
    return this.#writerFile.isEnding(writer);
  }

  isAlone(): boolean {
    return this.#problem === undefined && this.#writerFile.isOnly;
  }

  announce(): void {
    this.#touch(NEWS);
  }

  noteMissed(serials: readonly string[]): void {
    for (const serial of serials) this.#missed.add(serial);
  }

  missedBy(serial: string): readonly string[] {
    return this.#missed.list(serial);
  }

  forgetMissed(serial: string, notes: readonly string[]): void {
    this.#missed.remove(serial, notes);
  }

  refusalOf(serial: string, pin: SecretRef): number | undefined {
    return this.#refused.codeOf(serial, pin as NativeSecret);
  }

  noteRefusal(serial: string, pin: SecretRef, code: number): void {
    this.#refused.add(serial, pin as NativeSecret, code);
  }

  forgetRefusals(serial: string): void {
    this.#refused.forget(serial);
  }

  tokenLockOf(serial: string): string | undefined {
    const folder = join(this.locks.path, TOKENS);
    const path = join(folder, fileNameOf(serial));
    try {
      this.locks.makeFolder(folder);
      this.locks.ensure(path);
    } catch {
      // Without the file hosts write without the lock.
      return undefined;
    }
    this.#lasting.add(path);
    return path;
  }

  /** Gives the files that stay the current time: systems remove old files from folders such as /tmp. */
  #touchLasting(): void {
    const now = new Date();
    for (const path of this.#lasting) {
      try {
        utimesSync(path, now, now);
      } catch {
        // Another user of the Unix group owns the file.
      }
    }
  }

  /** Touches a file that all processes watch. */
  #touch(name: string): void {
    try {
      const descriptor = openSync(join(this.locks.path, name), constants.O_WRONLY | constants.O_NOFOLLOW);
      writeSync(descriptor, '\n', 0);
      closeSync(descriptor);
    } catch {
      // Without news other processes look at intervals.
    }
  }

  /** Releases all claims and ends the liveness of this writer; call it after the hosts have ended. */
  close(): void {
    for (const claim of [...this.#claims]) claim.release();
    this.#renewing?.cancel(undefined);
    this.#watcher?.close();
    clearInterval(this.#touching);
    this.#writerFile.close();
  }

  #take(name: string, formerName: string | undefined): LocalClaim | undefined {
    const workLimit = this.#surroundings.longestWrite() + WORK_GRACE;
    const former = formerName === undefined ? undefined : addon.claim(formerName);
    if (former !== undefined && former < 0) return undefined;
    const file = new ClaimFolder(this.locks, fileNameOf(name)).take(workLimit);
    if (file === undefined) {
      if (former !== undefined) addon.releaseClaim(former);
      return undefined;
    }
    const claim = new LocalClaim(name, file, former, (each) => this.#release(each));
    this.#claims.add(claim);
    if (this.#renewing === undefined || this.#renewing.completed)
      this.#renewing = this.#surroundings.start(this.#renewAll());
    return claim;
  }

  #release(claim: LocalClaim): void {
    if (!this.#claims.delete(claim)) return;
    claim.file.close();
    if (claim.former !== undefined) addon.releaseClaim(claim.former);
    this.#touch(RELEASES);
  }

  /** Renews the claims while there are any. */
  *#renewAll(): Task<void> {
    while (this.#claims.size > 0) {
      yield* sleepUntil(monotonicNow() + RENEWAL_INTERVAL);
      for (const claim of [...this.#claims]) {
        if (this.#isRenewed(claim)) continue;
        this.#release(claim);
        claim.lost.complete();
      }
    }
  }

  #isRenewed({ file }: LocalClaim): boolean {
    try {
      return file.renew();
    } catch {
      // A lack of descriptors, for example, may pass before the claim expires.
      return addon.bootTime() < file.expires;
    }
  }

  #watch(): void {
    const signals: Readonly<Record<string, Signal>> = { [NEWS]: this.news, [RELEASES]: this.releases };
    try {
      for (const name of [NEWS, RELEASES]) this.locks.ensure(join(this.locks.path, name));
      this.#watcher = this.#watcherOf(this.locks.path, (name) => signals[name]);
    } catch {
      // Without a watcher (the system allows a limited number) this process looks at intervals.
    }
  }

  /** Watches the files of a folder; fires the signal of each that is touched. */
  #watcherOf(folder: string, signalOf: (name: string) => Signal | undefined): FSWatcher {
    const watcher = watch(folder, { persistent: false }, (change, name) => {
      // A file that comes or goes is no message.
      const signal = name === null || change !== 'change' ? undefined : signalOf(name);
      if (signal === undefined) return;
      signal.fire();
      this.#surroundings.moved();
    });
    watcher.on('error', () => watcher.close());
    return watcher;
  }
}
