import { ReturnedOutput } from './returned-output.js';

/**
 * Input of a stream, kept to run the stream again on another member, and the output that the application was given.
 * While the stream runs again, the output must be the same.
 */
export class ReplayRecord {
  #parts: Uint8Array[] | undefined;
  /** Size of the input (bytes). */
  #size: number;
  readonly #given: ReturnedOutput = new ReturnedOutput();
  /** Length of the output of the present run (bytes). */
  #produced = 0;

  constructor(parts: readonly Uint8Array[]) {
    this.#parts = [...parts];
    this.#size = parts.reduce((sum, { length }) => sum + length, 0);
  }

  /** Input; undefined if the stream cannot run again. */
  get parts(): readonly Uint8Array[] | undefined {
    return this.#parts;
  }

  /** Size of the input (bytes); no longer counted once the stream cannot run again. */
  get size(): number {
    return this.#size;
  }

  /** Adds input; drops the record beyond `limit` bytes. */
  add(part: Uint8Array, limit: number): void {
    if (this.#parts === undefined) return;
    this.#parts.push(part);
    this.#size += part.length;
    if (this.#size <= limit) return;
    this.#parts = undefined;
    this.#forgetGiven();
  }

  /** Takes back the last input and the output that the application was given for it. */
  takeBack(output: Buffer): void {
    if (this.#parts === undefined) return;
    this.#size -= this.#parts.pop()?.length ?? 0;
    this.#given.cut(this.#given.length - output.length);
  }

  /** Begins a run from the start. */
  restart(): void {
    this.#produced = 0;
  }

  /**
   * Takes output of the present run. Returns the bytes that the application was not given yet; undefined if the others
   * differ from those that it was given. `isKept` is true if the new bytes are to be compared in a later run.
   */
  take(output: Buffer, isKept: boolean): Buffer | undefined {
    const overlap = Math.min(output.length, this.#given.length - this.#produced);
    const again = output.subarray(0, overlap);
    if (!again.equals(this.#given.slice(this.#produced, overlap))) return undefined;
    this.#produced += output.length;
    const fresh = output.subarray(overlap);
    if (this.#parts !== undefined && isKept) this.#given.add(fresh);
    this.#forgetGiven();
    return fresh;
  }

  /** Drops the input: the stream cannot run again. */
  drop(): void {
    this.#parts = undefined;
  }

  /** Drops input and output. */
  end(): void {
    this.#parts = undefined;
    this.#given.cut(0);
  }

  /** Forgets the output once nothing can be compared with it. */
  #forgetGiven(): void {
    if (this.#parts !== undefined || this.#produced < this.#given.length) return;
    this.#given.cut(0);
    this.#produced = 0;
  }
}
