/** Bytes that readers treat in a special way. */
const SPECIAL = [0, 1, 0x0a, 0x20, 0x22, 0x2d, 0x39, 0x5b, 0x7b, 0x7f, 0x80, 0xff];
/** Numbers at the limits of fields. */
const LIMITS = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
/** Longest input (bytes). */
const LONGEST = 65_536;

/** Makes inputs from a corpus by random changes; one seed brings the same inputs. */
export class Mutator {
  #state;
  #corpus;
  #words;

  /** `words` are texts that the reader knows. */
  constructor(seed, corpus, words) {
    this.#state = (seed >>> 0) + 1;
    this.#corpus = corpus;
    this.#words = words.map((word) => Buffer.from(word));
  }

  next() {
    let bytes = Buffer.from(this.#pick(this.#corpus));
    const changes = 1 + this.#below(8);
    for (let i = 0; i < changes; i += 1) bytes = this.#change(bytes);
    return bytes.subarray(0, LONGEST);
  }

  #change(bytes) {
    const at = this.#below(bytes.length + 1);
    const length = this.#below(Math.min(bytes.length - at, 32) + 1);
    const put = (middle, dropped = 0) => Buffer.concat([bytes.subarray(0, at), middle, bytes.subarray(at + dropped)]);
    switch (this.#below(8)) {
      case 0:
        return put(Buffer.of(this.#pick(SPECIAL)), 1);
      case 1:
        return put(Buffer.of(this.#below(256)), 1);
      case 2: {
        const number = Buffer.alloc(4);
        number.writeUInt32LE(this.#pick(LIMITS));
        return put(number, 4);
      }
      case 3:
        return put(Buffer.alloc(0), length);
      case 4:
        return put(Buffer.concat(Array.from({ length: 1 + this.#below(20) }, () => bytes.subarray(at, at + length))));
      case 5:
        return this.#words.length === 0 ? bytes : put(this.#pick(this.#words), this.#below(2) * length);
      case 6: {
        const other = this.#pick(this.#corpus);
        return Buffer.concat([bytes.subarray(0, at), other.subarray(this.#below(other.length + 1))]);
      }
      default:
        return put(
          Buffer.from(String(this.#pick([-1, 1e300, 2 ** 53, '"', '[[', '{}', 'null', '0.1', '1e999']))),
          length,
        );
    }
  }

  #pick(list) {
    return list[this.#below(list.length)];
  }

  /** Returns a number from 0 below a limit (xorshift). */
  #below(limit) {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return this.#state % Math.max(1, limit);
  }
}
