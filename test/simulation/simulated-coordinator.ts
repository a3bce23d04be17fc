import { Signal, type Task } from '../../src/core/base/task.js';
import { race } from '../../src/core/base/waiting.js';
import type { Claim, ClaimOptions, Coordinator } from '../../src/core/coordination/coordinator.js';
import { CLAIM_LIFETIME, type SimulatedMachine } from './fleet.js';
import type { FleetApplication } from './parts.js';

/** Interval between tries to take a claim (ms); a release makes it shorter. */
const POLL = 50;

/** Coordinator of an application: claims, liveness and news among the applications of its machine. */
export class SimulatedCoordinator implements Coordinator {
  readonly news: Signal = new Signal();
  readonly releases: Signal = new Signal();
  readonly problem: string | undefined = undefined;
  readonly writer: string;
  readonly writerPath: string;
  readonly #machine: SimulatedMachine;
  readonly #application: FleetApplication;

  constructor(machine: SimulatedMachine, application: FleetApplication) {
    this.#machine = machine;
    this.#application = application;
    this.writer = application.writer;
    this.writerPath = `/locks/writers/${this.writer}`;
  }

  *claim(name: string, { deadline, isGivenUp }: ClaimOptions): Task<Claim | undefined> {
    const machine = this.#machine;
    const application = this.#application;
    for (;;) {
      const lost = new Signal();
      const fence = machine.take(name, application, lost);
      if (fence !== undefined)
        return {
          ...{ name, fence, lost, path: `/locks/claims/${name}` },
          get expiresAt() {
            return lost.completed ? Number.NEGATIVE_INFINITY : machine.fleet.now + CLAIM_LIFETIME;
          },
          release: () => machine.release(name, lost),
        };
      if (isGivenUp?.() === true || machine.fleet.now >= deadline) return undefined;
      yield* race([this.releases], Math.min(deadline, machine.fleet.now + POLL));
    }
  }

  holderOf(name: string): string | undefined {
    const holder = this.#machine.holderOf(name);
    return holder === undefined ? undefined : `process ${holder.writer}`;
  }

  isWriterGone(writer: string): boolean | undefined {
    return !this.#machine.isThere(writer);
  }

  isWriterEnding(writer: string): boolean {
    return this.#machine.isEnding(writer);
  }

  isAlone(): boolean {
    return this.#machine.living().length === 1;
  }

  announce(): void {
    for (const each of this.#machine.living()) each.tell(() => each.coordinator.news.fire());
  }

  noteMissed(serials: readonly string[]): void {
    for (const serial of serials) this.#machine.noteMissed(serial);
  }

  missedBy(serial: string): readonly string[] {
    return this.#machine.missedBy(serial);
  }

  forgetMissed(serial: string, notes: readonly string[]): void {
    this.#machine.forgetMissed(serial, notes);
  }

  refusalOf(): undefined {
    return undefined;
  }

  noteRefusal(): void {
    throw new Error('no PIN is refused in this simulation');
  }

  forgetRefusals(): void {}

  tokenLockOf(serial: string): string {
    return `/locks/tokens/${serial}`;
  }
}
