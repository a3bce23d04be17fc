/** Outcome of a change (Rule 20). */
export type Outcome = 'done' | 'not done' | 'unknown';

/** Number of outcomes that a process remembers. */
const MOST_OUTCOMES = 10_000;

/** Outcomes of the last changes of this process, by operation. */
export class Outcomes {
  readonly #outcomes = new Map<string, Outcome>();

  /** Notes the outcome of a change; a later one replaces it. */
  note(operation: string, outcome: Outcome): void {
    this.#outcomes.delete(operation);
    this.#outcomes.set(operation, outcome);
    const [oldest] = this.#outcomes.keys();
    if (this.#outcomes.size > MOST_OUTCOMES && oldest !== undefined) this.#outcomes.delete(oldest);
  }

  /** Returns the outcome of a change; undefined if this process does not know it. */
  of(operation: string): Outcome | undefined {
    return this.#outcomes.get(operation);
  }
}
