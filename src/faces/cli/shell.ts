import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import type { Task } from '../../core/base/task.js';
import type { GroupConfig, GroupConfigInput } from '../../core/configuration/configuration.js';
import { awaitJoins } from '../../core/group/coming.js';
import type { Group } from '../../core/group/group.js';
import { administer } from '../../runtime/groups/administration.js';
import { type ConfigurationSource, readConfiguration } from '../../runtime/groups/configuration-source.js';
import { OpenGroup } from '../../runtime/groups/open-group.js';
import { OWN_PREFIX } from '../../runtime/hosts/environment.js';
import { findConfiguration } from './configuration/configuration-path.js';
import { EXIT, type ExitCode } from './exit-code.js';
import { Output } from './terminal/output.js';
import { ProgressBar } from './terminal/progress.js';
import { Questions } from './terminal/question.js';

/** Options that every command takes besides its own. */
export interface Settings {
  readonly config?: string;
  readonly json?: boolean;
  readonly yes?: boolean;
}

/** Deadline of work on whole tokens (ms). */
export const WORK_WITHIN = 3_600_000;

/** Options for opening a group besides its configuration. */
interface HostOptions {
  /** Environment variables that hosts do not get: PINs of other tokens. */
  readonly hidden?: readonly string[];
  /** Path of a configuration file whose changes are applied. */
  readonly path?: string;
  /** Member whose PIN is to be tried, also if its token has refused it before; or `all`. */
  readonly triesAgain?: string;
  /** True to see a group record whatever its signature is. */
  readonly trustsAll?: boolean;
}

/** Surroundings of a command: the terminal, the chosen configuration, and the group behind it. */
export class Shell {
  readonly output: Output;
  readonly questions: Questions;

  constructor(
    readonly settings: Settings,
    /** Signal that Ctrl-C aborts. */
    readonly signal: AbortSignal,
  ) {
    this.output = new Output(settings.json === true);
    this.questions = new Questions(signal, settings.yes === true);
  }

  /** Path of the chosen configuration. */
  get path(): string {
    return findConfiguration(this.settings.config);
  }

  configuration(): GroupConfig {
    return readConfiguration(this.path);
  }

  /** Returns the configuration for opening the group; asks for the PIN if the configuration has none. */
  async source(path: string = this.path): Promise<ConfigurationSource> {
    const known = this.#sources.get(path);
    if (known !== undefined) return known;
    const { pin, label } = readConfiguration(path);
    if (pin !== undefined) return path;
    if (!this.questions.canAsk) {
      this.output.warn(`${path} has no \`pin\`; using public objects only`);
      return path;
    }
    // Passes the PIN in an environment variable; programs that this process starts do not get that variable.
    const env = `${OWN_PREFIX}PIN_${this.#sources.size}`;
    process.env[env] = await this.questions.secret(`PIN of ${label}`, 'a `pin` in the configuration');
    const source = { ...(parse(readFileSync(path, 'utf8')) as GroupConfigInput), pin: { env } };
    this.#sources.set(path, source);
    return source;
  }

  /** Configurations completed with a typed PIN, by path, so that each PIN is asked for once. */
  readonly #sources = new Map<string, ConfigurationSource>();

  /** Returns the completed configuration, checked. */
  async completeConfiguration(): Promise<GroupConfig> {
    return readConfiguration(await this.source());
  }

  /** Opens the group, waits for service, does the work, and closes the group in any case. */
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

  /** Opens the group, does the work without waiting for service, and closes the group in any case. */
  async withHosts<T>(
    config: GroupConfig,
    work: (open: OpenGroup) => Promise<T>,
    { hidden = [], path, triesAgain, trustsAll = false }: HostOptions = {},
  ): Promise<T> {
    const bar = new ProgressBar(!this.output.isJson && process.stderr.isTTY === true);
    const open = await OpenGroup.open(config, { path, hidden, triesAgain, trustsAll, signal: this.signal });
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

  /** Waits until the group can be used, and a little longer for members that still join: others may be just busy. */
  async awaitService(open: OpenGroup): Promise<void> {
    const { deadline, hangAfter } = open.group.policy;
    await open.awaitService(open.now() + deadline, this.signal);
    await open.run(awaitJoins(open.group, open.now() + hangAfter), this.signal);
  }

  /** Returns the exit code of a command that has done its work: degraded if a member is away without being drained. */
  codeOf({ group }: OpenGroup): ExitCode {
    const isThere = ['active', 'standby', 'drained'];
    return group.members.every(({ state }) => isThere.includes(state.name)) ? EXIT.good : EXIT.degraded;
  }

  /** Runs an operator's work on the group, one such task at a time. */
  async administer<T>(open: OpenGroup, name: string, work: (group: Group, deadline: number) => Task<T>): Promise<T> {
    return await administer(open, name, work, WORK_WITHIN, this.signal);
  }
}
