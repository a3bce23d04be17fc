import { Declined, Interrupted, UsageError } from '../failure.js';

/** Loads the prompts when the first question is asked: most commands ask none. */
const prompts = (): Promise<typeof import('@clack/prompts')> => import('@clack/prompts');

interface Choice<T> {
  readonly label: string;
  readonly hint?: string;
  readonly value: T;
}

/**
 * Asks the operator for values that the command line omits; without a terminal, throws and names the option instead.
 */
export class Questions {
  /** True if there is a terminal to ask in. */
  readonly canAsk: boolean = process.stdin.isTTY === true && process.stdout.isTTY === true;
  readonly #signal: AbortSignal;
  readonly #isConfirmed: boolean;

  /** Takes the signal that ends a question, and whether everything is confirmed already (`--yes`). */
  constructor(signal: AbortSignal, isConfirmed: boolean) {
    this.#signal = signal;
    this.#isConfirmed = isConfirmed;
  }

  async text(message: string, option: string, initialValue?: string): Promise<string> {
    this.#check(message, option);
    const validate = (value: string | undefined): string | undefined => (value ? undefined : 'enter a value');
    const options = { message, validate, signal: this.#signal };
    const { text } = await prompts();
    return answerOf(await text(initialValue === undefined ? options : { ...options, initialValue }));
  }

  /** Asks for a secret, which is not shown. */
  async secret(message: string, option: string): Promise<string> {
    this.#check(message, option);
    const { password } = await prompts();
    return answerOf(await password({ message, mask: '•', signal: this.#signal }));
  }

  /** Asks for a new secret twice; UsageError if the answers differ. */
  async newSecret(message: string, option: string): Promise<string> {
    const first = await this.secret(message, option);
    const second = await this.secret(`${message}, once more`, option);
    if (first !== second) throw new UsageError('the two PINs differ', 'nothing was changed; run the command again');
    return first;
  }

  async select<T extends string | number>(message: string, option: string, choices: readonly Choice<T>[]): Promise<T> {
    this.#check(message, option);
    const options = choices.map(({ label, hint, value }) =>
      hint === undefined ? { label, value } : { label, hint, value },
    );
    const { select } = await prompts();
    return answerOf(await select<T>({ message, options: options as never, signal: this.#signal })) as T;
  }

  /** Asks for confirmation before something is destroyed; throws without a yes. */
  async confirm(message: string): Promise<void> {
    if (this.#isConfirmed) return;
    if (!this.canAsk)
      throw new UsageError(`refusing without confirmation: ${message}`, 'pass --yes, or run the command in a terminal');
    const { confirm } = await prompts();
    const isYes = answerOf(await confirm({ message, initialValue: false, signal: this.#signal }));
    if (!isYes) throw new Declined();
  }

  #check(message: string, option: string): void {
    if (!this.canAsk)
      throw new UsageError(`not specified: ${message}`, `give ${option}, or run the command in a terminal`);
  }
}

function answerOf<T>(answer: T): Exclude<T, symbol> {
  // The prompts return a symbol when the operator cancels.
  if (typeof answer === 'symbol') throw new Interrupted();
  return answer as Exclude<T, symbol>;
}
