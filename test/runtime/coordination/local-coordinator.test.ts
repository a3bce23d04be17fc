import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { Running } from '../../../src/core/base/task.js';
import type { Claim, ClaimOptions } from '../../../src/core/coordination/coordinator.js';
import { LIFETIME } from '../../../src/runtime/coordination/local/claim-file.js';
import { LocalCoordinator } from '../../../src/runtime/coordination/local/local-coordinator.js';
import { addon } from '../../../src/runtime/hosts/addon.js';
import { monotonicNow } from '../../../src/runtime/scheduling/clock.js';
import { Scheduler } from '../../../src/runtime/scheduling/scheduler.js';
import { type Folder, makeFolder } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

/** Time that never comes in a test (ms). */
const LONG = 60_000;
/** Longest write of the hosts (ms). */
const LONGEST_WRITE = 1000;

let folder: Folder;
/** Time by which the monotonic clock is ahead (ms). */
let ahead: number;
/** Time for which the machine was suspended (ms). */
let suspended: number;
const processes: Process[] = [];

beforeEach(() => {
  folder = makeFolder('coordinator');
  ahead = 0;
  suspended = 0;
  // Stops both clocks, so that time passes only when a test lets it.
  const [now, bootTime] = [performance.now(), addon.bootTime()];
  jest.spyOn(performance, 'now').mockImplementation(() => now + ahead);
  jest.spyOn(addon, 'bootTime').mockImplementation(() => bootTime + ahead + suspended);
});
afterEach(() => {
  jest.restoreAllMocks();
  for (const each of processes.splice(0)) each.coordinator.close();
  folder.remove();
});

/** Group's coordinator with tasks of its own, as each process has one. */
class Process {
  readonly problems: string[] = [];
  readonly scheduler: Scheduler = new Scheduler(monotonicNow);
  readonly coordinator: LocalCoordinator;

  constructor(locks: string) {
    this.coordinator = new LocalCoordinator(join(folder.path, locks), 'group', {
      start: (task) => this.scheduler.start(task),
      moved: () => this.scheduler.step(),
      longestWrite: () => LONGEST_WRITE,
      report: (problem) => this.problems.push(problem),
    });
    processes.push(this);
  }

  start(name: string, options: ClaimOptions): Running<Claim | undefined> {
    return this.scheduler.start(this.coordinator.claim(name, options));
  }

  /** Claims a name without waiting. */
  claim(name: string): Claim | undefined {
    return resultOf(this.start(name, { deadline: 0 }));
  }

  /** Lets a time pass (ms), and steps the tasks of this process alone. */
  pass(ms: number): void {
    ahead += ms;
    this.scheduler.step();
  }
}

function resultOf<T>({ ended }: Running<T>): T {
  if (ended?.ok !== true) throw ended?.error ?? new Error('the task has not ended');
  return ended.value;
}

describe('coordinators of two processes', () => {
  test('[Rule 21] exclude each other, name by name', () => {
    const [one, other] = [new Process('locks'), new Process('locks')];
    const claim = one.claim('work/1');
    expect(claim).toMatchObject({ name: 'work/1' });
    expect([one.claim('work/1'), other.claim('work/1')]).toEqual([undefined, undefined]);
    expect(other.coordinator.holderOf('work/1')).toBe(`process ${process.pid}`);
    expect(other.claim('work/2')).toBeDefined();
    claim?.release();
    expect(other.coordinator.holderOf('work/1')).toBeUndefined();
    const next = other.claim('work/1');
    expect(next?.fence).toBe((claim?.fence ?? 0) + 1);
    // Releasing a second time ends nothing of the next claim.
    claim?.release();
    expect(one.claim('work/1')).toBeUndefined();
  });

  test('hear of changes that one of them announces', async () => {
    const [one, other] = [new Process('locks'), new Process('locks')];
    let heard = 0;
    other.coordinator.news.add({
      wake: () => {
        heard += 1;
      },
    });
    one.coordinator.announce();
    await until(
      () => heard > 0,
      () => 'the other one hears of the change',
    );
  });

  test('hear of a released claim: the one that waits gets it at once', async () => {
    const [one, other] = [new Process('locks'), new Process('locks')];
    const claim = one.claim('work');
    const waiting = other.start('work', { deadline: monotonicNow() + LONG });
    other.scheduler.step();
    expect(waiting.completed).toBe(false);
    claim?.release();
    // Steps the other's tasks for news only: no time passes for them.
    await until(
      () => waiting.completed,
      () => 'the other one gets the claim',
    );
    expect(resultOf(waiting)).toMatchObject({ name: 'work' });
  });

  test('[Rule 21] get a claim without news too, by looking at intervals', () => {
    const [one, other] = [new Process('locks'), new Process('locks')];
    const claim = one.claim('work');
    const waiting = other.start('work', { deadline: monotonicNow() + LONG });
    claim?.release();
    expect(waiting.completed).toBe(false);
    other.pass(50);
    expect(resultOf(waiting)).toMatchObject({ name: 'work' });
  });

  test('give up waiting for a claim at the deadline, or when the caller gives up', () => {
    const [one, other] = [new Process('locks'), new Process('locks')];
    one.claim('work');
    const deadline = monotonicNow() + 2000;
    let isGivenUp = false;
    const waiting = other.start('work', { deadline });
    const impatient = other.start('work', { deadline, isGivenUp: () => isGivenUp });
    other.pass(1000);
    expect([waiting.completed, impatient.completed]).toEqual([false, false]);
    isGivenUp = true;
    other.pass(500);
    expect(waiting.completed).toBe(false);
    expect(resultOf(impatient)).toBeUndefined();
    other.pass(500);
    expect(resultOf(waiting)).toBeUndefined();
  });

  test('know each other as writers while they are open', () => {
    const [one, other] = [new Process('locks'), new Process('locks')];
    const { writer } = other.coordinator;
    expect([one.coordinator.isWriterGone(writer), one.coordinator.isWriterEnding(writer)]).toEqual([false, false]);
    other.coordinator.close();
    processes.pop();
    expect([one.coordinator.isWriterGone(writer), one.coordinator.isWriterEnding(writer)]).toEqual([true, false]);
    expect(one.problems).toEqual([]);
  });

  test('with different lock folders tell so, once', () => {
    const [one, other] = [new Process('locks'), new Process('elsewhere')];
    expect(one.coordinator.problem).toBeUndefined();
    for (let i = 0; i < 2; i += 1) expect(one.coordinator.isWriterGone(other.coordinator.writer)).toBe(false);
    expect(one.problems).toEqual([
      `another process of this machine uses another lock folder than ${join(folder.path, 'locks')}: ` +
        'give both the same setting locks',
    ]);
    expect(one.coordinator.problem).toBe(one.problems[0]);
  });

  test('that is closed releases its claims', () => {
    const [one, other] = [new Process('locks'), new Process('locks')];
    other.claim('work');
    other.coordinator.close();
    processes.pop();
    expect(one.claim('work')).toBeDefined();
  });
});

describe('a claim of a coordinator', () => {
  /** Writes the expiry into a claim's file, as if its holder had not renewed it (ms of CLOCK_BOOTTIME). */
  function expireAt({ path }: Claim, time: number): void {
    const bytes = readFileSync(path);
    bytes.writeBigUInt64LE(BigInt(Math.round(time * 1e6)));
    writeFileSync(path, bytes);
  }
  const expiryOf = ({ path }: Claim): number => Number(readFileSync(path).readBigUInt64LE()) / 1e6;

  test('[Rule 21] is lost when another process has passed it over; the holder then begins nothing more', () => {
    const [one, other] = [new Process('locks'), new Process('locks')];
    const claim = one.claim('work') as Claim;
    expect(claim.expiresAt).toBeCloseTo(monotonicNow() + LIFETIME, 3);
    expireAt(claim, addon.bootTime());
    const next = other.claim('work') as Claim;
    expect(next.fence).toBe(claim.fence + 1);
    one.pass(LIFETIME / 3);
    expect([claim.lost.completed, next.lost.completed]).toEqual([true, false]);
    expect(claim.expiresAt).toBe(Number.NEGATIVE_INFINITY);
    claim.release();
    expect(one.claim('work')).toBeUndefined();
  });

  test('[Rule 21] is lost when the machine slept past the expiry, also without another process', () => {
    const one = new Process('locks');
    const claim = one.claim('work') as Claim;
    suspended = LIFETIME + 1;
    // Ends in time although the clock of the tasks stood still with the machine.
    expect(claim.expiresAt).toBeLessThanOrEqual(monotonicNow());
    expect(claim.lost.completed).toBe(false);
    one.pass(LIFETIME / 3);
    expect(claim.lost.completed).toBe(true);
    expect(one.claim('work')).toBeDefined();
  });

  test('[Rule 21] is renewed while its holder runs, and the next one after it too', () => {
    const [one, other] = [new Process('locks'), new Process('locks')];
    for (let round = 0; round < 2; round += 1) {
      const claim = one.claim('work') as Claim;
      for (let i = 0; i < 3; i += 1) {
        const [before, expiry] = [claim.expiresAt, expiryOf(claim)];
        one.pass(LIFETIME / 3);
        expect(claim.expiresAt).toBeGreaterThan(before);
        expect(expiryOf(claim)).toBeGreaterThan(expiry);
      }
      expect(claim.lost.completed).toBe(false);
      expect(other.claim('work')).toBeUndefined();
      claim.release();
    }
  });

  test('tells hosts how long they may still write: a write longer than its expiry, and some time more', () => {
    const claim = new Process('locks').claim('work') as Claim;
    const workLimit = Number(readFileSync(claim.path).readBigUInt64LE(8)) / 1e6;
    expect(workLimit - expiryOf(claim)).toBeGreaterThan(LONGEST_WRITE);
  });

  test("excludes former versions' processes, and is excluded by them, if their name is given", () => {
    const [one, other] = [new Process('locks'), new Process('elsewhere')];
    const formerName = `pkcs11-ha test ${process.pid}`;
    const former = addon.claim(formerName);
    expect(resultOf(one.start('work', { deadline: 0, formerName }))).toBeUndefined();
    expect(one.coordinator.holderOf('work', formerName)).toBe('a process of a former version');
    addon.releaseClaim(former);
    const claim = resultOf(one.start('work', { deadline: 0, formerName }));
    expect(claim).toBeDefined();
    expect(resultOf(other.start('work', { deadline: 0, formerName }))).toBeUndefined();
    claim?.release();
    expect(resultOf(other.start('work', { deadline: 0, formerName }))).toBeDefined();
  });
});
