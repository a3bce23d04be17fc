import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import type { Task } from '../../core/base/task.js';
import type { GroupConfig, GroupConfigInput } from '../../core/configuration/configuration.js';
import type { Group } from '../../core/group/group.js';
import { administer } from '../../runtime/groups/administration.js';
import { type ConfigurationSource, OpenGroup, readConfiguration } from '../../runtime/groups/open-group.js';
import { OWN_PREFIX } from '../../runtime/hosts/environment.js';
import { findConfiguration } from './configuration/configuration-path.js';
import { EXIT, type ExitCode } from './exit-code.js';
import { Output } from './terminal/output.js';
import { ProgressBar } from './terminal/progress.js';
import { Questions } from './terminal/question.js';

/** What every command takes besides its own options. */
export interface Settings {
  readonly config?: string;
  readonly json?: boolean;
  readonly yes?: boolean;
}

/** Work on whole tokens takes as long as it takes (ms). */
export const WORK_WITHIN = 3_600_000;

/** What hosts are opened with besides the configuration. */
interface HostOptions {
  /** Variables that only this process sees: PINs of other tokens. */
  readonly hidden?: readonly string[];
  /** The file whose changes are taken up. */
  readonly path?: string;
}

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

  /** The configuration for whoever opens the group; where it names no PIN that is asked for. */
  async source(path: string = this.path): Promise<ConfigurationSource> {
    const known = this.#sources.get(path);
    if (known !== undefined) return known;
    const { pin, label } = readConfiguration(path);
    if (pin !== undefined) return path;
    if (!this.questions.canAsk) {
      this.output.warn(`${path} names no \`pin\`: only what is public is seen`);
      return path;
    }
    // As if it had come from outside; no program that is started gets the variable.
    const env = `${OWN_PREFIX}PIN_${this.#sources.size}`;
    process.env[env] = await this.questions.secret(`PIN of ${label}`, 'a `pin` in the configuration');
    const source = { ...(parse(readFileSync(path, 'utf8')) as GroupConfigInput), pin: { env } };
    this.#sources.set(path, source);
    return source;
  }

  /** What was completed by an answer, so that it is asked for once. */
  readonly #sources = new Map<string, ConfigurationSource>();

  /** The same, checked. */
  async completeConfiguration(): Promise<GroupConfig> {
    return readConfiguration(await this.source());
  }

  /** Opens the group, does the work, and closes it whatever becomes of that. */
  async withGroup<T>(work: (open: OpenGroup) => Promise<T>, options: HostOptions = {}): Promise<T> {
    return await this.withHosts(
      await this.completeConfiguration(),
      async (open) => {
        await this.awaitService(open);
        return await work(open);
      },
      options,
    );
  }

  /** The same without waiting for anybody to serve. */
  async withHosts<T>(
    config: GroupConfig,
    work: (open: OpenGroup) => Promise<T>,
    { hidden = [], path }: HostOptions = {},
  ): Promise<T> {
    const bar = new ProgressBar(!this.output.isJson && process.stderr.isTTY === true);
    const open = new OpenGroup(config, path, hidden);
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

  /** Waits until the group can be used. */
  async awaitService(open: OpenGroup): Promise<void> {
    await open.awaitService(open.now() + open.group.policy.deadline, this.signal);
  }

  /** What a command that has done its work ends with: another one while a member is away that nobody has drained. */
  codeOf({ group }: OpenGroup): ExitCode {
    const isThere = ['active', 'standby', 'drained'];
    return group.members.every(({ state }) => isThere.includes(state.name)) ? EXIT.good : EXIT.degraded;
  }

  /** What an operator does with the group, one such work at a time. */
  async administer<T>(open: OpenGroup, name: string, work: (group: Group, deadline: number) => Task<T>): Promise<T> {
    return await administer(open, name, work, WORK_WITHIN, this.signal);
  }
}
