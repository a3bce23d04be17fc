import { confirm, isCancel, password, select, text } from '@clack/prompts';
import { Declined, Interrupted, UsageError } from '../failure.js';

export interface Choice<T> {
  readonly label: string;
  readonly hint?: string;
  readonly value: T;
}

/** Asks the operator for what the command line did not say; where nobody can answer, the option is named instead. */
export class Questions {
  constructor(
    private readonly signal: AbortSignal,
    /** Whatever would have to be confirmed is. */
    private readonly isConfirmed: boolean,
    private readonly mayAsk: boolean = process.stdin.isTTY === true && process.stdout.isTTY === true,
  ) {}

  get canAsk(): boolean {
    return this.mayAsk;
  }

  async text(message: string, option: string, initialValue?: string): Promise<string> {
    this.#check(message, option);
    const validate = (value: string | undefined): string | undefined => (value ? undefined : 'please say something');
    const options = { message, validate, signal: this.signal };
    return answerOf(await text(initialValue === undefined ? options : { ...options, initialValue }));
  }

  /** What is typed is not shown. */
  async secret(message: string, option: string): Promise<string> {
    this.#check(message, option);
    return answerOf(await password({ message, mask: '•', signal: this.signal }));
  }

  /** The same, typed twice. */
  async newSecret(message: string, option: string): Promise<string> {
    const first = await this.secret(message, option);
    const second = await this.secret(`${message}, once more`, option);
    if (first !== second) throw new UsageError('the two PINs are not the same', 'nothing was changed: try again');
    return first;
  }

  async select<T extends string | number>(message: string, option: string, choices: readonly Choice<T>[]): Promise<T> {
    this.#check(message, option);
    const options = choices.map(({ label, hint, value }) =>
      hint === undefined ? { label, value } : { label, hint, value },
    );
    return answerOf(await select<T>({ message, options: options as never, signal: this.signal })) as T;
  }

  /** Nothing that destroys happens without a yes. */
  async confirm(message: string): Promise<void> {
    if (this.isConfirmed) return;
    this.#check(message, '--yes');
    const isMeant = answerOf(await confirm({ message, initialValue: false, signal: this.signal }));
    if (!isMeant) throw new Declined();
  }

  #check(message: string, option: string): void {
    if (!this.mayAsk)
      throw new UsageError(`this has to be said: ${message}`, `give ${option}, or run it in a terminal`);
  }
}

function answerOf<T>(answer: T): Exclude<T, symbol> {
  if (isCancel(answer)) throw new Interrupted();
  return answer as Exclude<T, symbol>;
}
