/** Output that a stream has returned to the application: bytes that grow at the end. */
export class ReturnedOutput {
  #bytes: Buffer = Buffer.alloc(0);
  length: number = 0;

  add(more: Uint8Array): void {
    if (this.length + more.length > this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(1024, this.#bytes.length * 2, this.length + more.length));
      larger.set(this.#bytes.subarray(0, this.length));
      this.#bytes = larger;
    }
    this.#bytes.set(more, this.length);
    this.length += more.length;
  }

  slice(from: number, size: number): Buffer {
    return this.#bytes.subarray(from, from + size);
  }

  /** Shortens the bytes to a length. */
  cut(length: number): void {
    this.length = length;
    if (length === 0) this.#bytes = Buffer.alloc(0);
  }
}
