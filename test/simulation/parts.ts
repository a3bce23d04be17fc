import type { Signal } from '../../src/core/base/task.js';

/** Application, as the fleet and its machine see it. */
export interface FleetApplication {
  readonly writer: string;
  readonly machine: object;
  readonly isAlive: boolean;
  /** Time at which it was stopped (ms); undefined while it runs. */
  readonly standsSince: number | undefined;
  /** Signals of its coordinator. */
  readonly coordinator: { readonly news: Signal; readonly releases: Signal };
  /** Time of its next step (ms). */
  readonly dueAt: number;
  step(): void;
  /** Runs something in the application, unless it has ended. */
  tell(work: () => void): void;
}

/** Host, as the fleet and its machine see it. */
export interface FleetHost {
  readonly member: string;
  /** True while a write of token objects is under way. */
  readonly isWriting: boolean;
}

/** Fault at a call: the host dies, the call never returns, or the token answers a code. */
export type CallFault = 'kill' | 'hang' | { readonly code: number };
