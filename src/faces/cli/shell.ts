import type { GroupConfig } from '../../core/configuration.js';
import type { Group } from '../../core/group.js';
import { presentPin } from '../../core/pin-presentation.js';
import type { Task } from '../../core/task.js';
import { administer } from '../../runtime/administration.js';
import { OpenGroup, readConfiguration } from '../../runtime/open-group.js';
import { guardPin } from '../../runtime/pin.js';
import { findConfiguration } from './configuration-path.js';
import { Output } from './output.js';
import { ProgressBar } from './progress.js';
import { Questions } from './question.js';

/** What every command takes besides its own options. */
export interface Settings {
  readonly config?: string;
  readonly json?: boolean;
  readonly yes?: boolean;
}

/** Work on whole tokens takes as long as it takes (ms). */
export const WORK_WITHIN = 3_600_000;

/** What a command has: the terminal, the configuration that is meant, and the group behind it. */
export class Shell {
  readonly output: Output;
  readonly questions: Questions;

  constructor(
    readonly settings: Settings,
    /** Ctrl-C. */
    readonly signal: AbortSignal,
  ) {
    this.output = new Output(settings.json === true);
    this.questions = new Questions(signal, settings.yes === true);
  }

  /** The path of the configuration that is meant. */
  get path(): string {
    return findConfiguration(this.settings.config);
  }

  configuration(): GroupConfig {
    return readConfiguration(this.path);
  }

  /** Opens the group, does the work, and closes it whatever becomes of that. */
  async withGroup<T>(work: (open: OpenGroup) => Promise<T>): Promise<T> {
    return await this.withHosts(this.configuration(), async (open) => {
      await this.awaitService(open);
      return await work(open);
    });
  }

  /** The same without waiting for anybody to serve. */
  async withHosts<T>(config: GroupConfig, work: (open: OpenGroup) => Promise<T>): Promise<T> {
    const bar = new ProgressBar(!this.output.isJson && process.stderr.isTTY === true);
    const open = new OpenGroup(config);
    open.onEvent((event) => {
      if (event.type === 'progress') bar.show(event);
    });
    try {
      return await work(open);
    } finally {
      bar.end();
      await open.close();
    }
  }

  /** Waits until the group can be used; where the configuration has no PIN it is asked for. */
  async awaitService(open: OpenGroup): Promise<void> {
    const { group } = open;
    const until = open.now() + group.policy.deadline;
    await open.awaitService(until, this.signal);
    if (group.pin !== undefined || !this.questions.canAsk) return;
    const pin = open.secrets.hold(
      guardPin('PIN', await this.questions.secret(`PIN of ${group.label}`, 'a `pin` in the configuration')),
    );
    const within = open.now() + group.policy.deadline;
    await open.run(presentPin(group, pin, within), this.signal);
    await open.awaitService(within, this.signal);
  }

  /** What an operator does with the group, one such work at a time. */
  async administer<T>(open: OpenGroup, name: string, work: (group: Group, deadline: number) => Task<T>): Promise<T> {
    return await administer(open, name, work, WORK_WITHIN, this.signal);
  }
}
