import {
  Alarm,
  type Ended,
  FOREVER,
  Running,
  type Signal,
  type Task,
  type Wait,
  type Waiter,
} from '../../core/base/task.js';
import { type Due, DueHeap } from './heap.js';

const NOTHING: readonly Signal[] = [];

/** Started task, with its state in the scheduler. */
class Execution<T> extends Running<T> implements Waiter, Due {
  readonly task: Task<T>;
  private readonly scheduler: Scheduler;
  ended: Ended<T> | undefined;
  dueAt: number;
  slot: number;
  isReady: boolean;
  waitsFor: readonly Signal[];
  /** Decides whether an abort is deferred; undefined: never. */
  deferral: (() => boolean) | undefined;
  /** Abort that was deferred; the task begins no further work that could defer another one. */
  deferred: { readonly reason: unknown } | undefined;

  constructor(task: Task<T>, scheduler: Scheduler) {
    super();
    this.task = task;
    this.scheduler = scheduler;
    this.ended = undefined;
    this.dueAt = FOREVER;
    this.slot = -1;
    this.isReady = false;
    this.waitsFor = NOTHING;
    this.deferral = undefined;
    this.deferred = undefined;
  }

  wake(): void {
    this.scheduler.ready(this as Execution<unknown>);
  }

  expire(): void {
    this.wake();
  }

  cancel(reason: unknown): void {
    this.scheduler.cancel(this as Execution<unknown>, reason);
  }

  abort(reason: unknown): void {
    if (this.deferral?.() === true) this.deferred = { reason };
    else this.cancel(reason);
  }
}

class ScheduledAlarm extends Alarm implements Due {
  dueAt: number = FOREVER;
  slot: number = -1;

  constructor(private readonly dues: DueHeap<Expiring>) {
    super();
  }

  ringAt(time: number): void {
    if (time >= this.dueAt) return;
    this.stop();
    this.dueAt = time;
    this.dues.add(this);
  }

  stop(): void {
    this.dues.remove(this);
    this.dueAt = FOREVER;
  }

  expire(): void {
    this.dueAt = FOREVER;
    this.fire();
  }
}

interface Expiring extends Due {
  expire(): void;
}

/**
 * Steps tasks from messages and time (Rule 1). The scheduler itself never waits: its driver, the event loop or a
 * synchronous call, delivers messages and asks when to step next.
 */
export class Scheduler {
  private readonly dues = new DueHeap<Expiring>();
  private readonly now: () => number;
  private readyTasks: Execution<unknown>[] = [];
  private isStepping: boolean = false;
  /** Task that is being advanced. */
  private current: Execution<unknown> | undefined;

  constructor(now: () => number) {
    this.now = now;
  }

  /** Next due time (ms of the clock); FOREVER if nothing is due. */
  get dueAt(): number {
    return this.readyTasks.length > 0 ? this.now() : (this.dues.first?.dueAt ?? FOREVER);
  }

  start<T>(task: Task<T>): Running<T> {
    const execution = new Execution(task, this);
    this.advance(execution as Execution<unknown>);
    return execution;
  }

  alarm(): Alarm {
    return new ScheduledAlarm(this.dues);
  }

  /** See `Port.deferAbort`. */
  deferAbort(decide: () => boolean): () => void {
    const { current } = this;
    if (current === undefined) throw new Error('no task is running');
    if (current.deferred !== undefined) throw current.deferred.reason;
    current.deferral = decide;
    return () => {
      if (current.deferral === decide) current.deferral = undefined;
    };
  }

  ready(execution: Execution<unknown>): void {
    if (execution.isReady || execution.ended !== undefined) return;
    execution.isReady = true;
    this.readyTasks.push(execution);
  }

  cancel(execution: Execution<unknown>, reason: unknown): void {
    if (execution.ended !== undefined) return;
    this.forget(execution);
    execution.ended = { ok: false, error: reason };
    execution.task.return(undefined);
    execution.complete();
  }

  /** Steps the tasks that are ready or due by now. */
  step(): void {
    if (this.isStepping) return;
    this.isStepping = true;
    try {
      this.stepReady();
      const now = this.now();
      for (let due = this.dues.first; due !== undefined && due.dueAt <= now; due = this.dues.first) {
        this.dues.remove(due);
        due.expire();
        this.stepReady();
      }
    } finally {
      this.isStepping = false;
    }
  }

  private stepReady(): void {
    while (this.readyTasks.length > 0) {
      const batch = this.readyTasks;
      this.readyTasks = [];
      for (const execution of batch) {
        execution.isReady = false;
        if (execution.ended === undefined) this.advance(execution);
      }
    }
  }

  /** Runs a task until it has to wait. */
  private advance(execution: Execution<unknown>): void {
    this.forget(execution);
    for (;;) {
      let result: IteratorResult<Wait, unknown>;
      const before = this.current;
      this.current = execution;
      try {
        result = execution.task.next();
      } catch (error) {
        // Keeps an end that was set while the task ran.
        execution.ended ??= { ok: false, error };
        execution.complete();
        return;
      } finally {
        this.current = before;
      }
      if (execution.ended !== undefined) return;
      if (result.done === true) {
        execution.ended = { ok: true, value: result.value };
        execution.complete();
        return;
      }
      if (this.wait(execution, result.value)) return;
    }
  }

  /** Registers what a task waits for. Returns false if the wait is over already. */
  private wait(execution: Execution<unknown>, wait: Wait): boolean {
    for (const signal of wait.signals) if (signal.completed) return false;
    if (wait.until !== FOREVER && wait.until <= this.now()) return false;
    for (const signal of wait.signals) signal.add(execution);
    execution.waitsFor = wait.signals;
    if (wait.until !== FOREVER) {
      execution.dueAt = wait.until;
      this.dues.add(execution);
    }
    return true;
  }

  private forget(execution: Execution<unknown>): void {
    for (const signal of execution.waitsFor) signal.remove(execution);
    execution.waitsFor = NOTHING;
    this.dues.remove(execution);
  }
}
