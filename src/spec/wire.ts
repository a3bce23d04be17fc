const FIRST = 4096;
const KEPT = 1024 ** 2;

function viewOf({ buffer, byteOffset, length }: Buffer): DataView {
  return new DataView(buffer, byteOffset, length);
}

/**
 * Packets of the channel, little endian. The other side is native/host/wire.h.
 *
 * A writer is used again for every packet: the bytes it holds are good until the next `reset`.
 */
export class Writer {
  bytes: Buffer = Buffer.allocUnsafeSlow(FIRST);
  length: number = 0;
  private view: DataView = viewOf(this.bytes);

  reset(): this {
    // One large packet is no reason to hold its memory for ever.
    if (this.bytes.length > KEPT) this.#hold(Buffer.allocUnsafeSlow(FIRST));
    this.length = 0;
    return this;
  }

  u8(value: number): void {
    this.#room(1);
    this.bytes[this.length++] = value;
  }

  u32(value: number): void {
    this.#room(4);
    this.view.setUint32(this.length, value, true);
    this.length += 4;
  }

  /** A CK_ULONG: as a number as far as that holds it exactly (up to 2^53). */
  u64(value: number | bigint): void {
    this.#room(8);
    if (typeof value === 'bigint') {
      this.view.setBigUint64(this.length, value, true);
    } else {
      const high = Math.floor(value / 0x1_0000_0000);
      this.view.setUint32(this.length, value - high * 0x1_0000_0000, true);
      this.view.setUint32(this.length + 4, high, true);
    }
    this.length += 8;
  }

  raw(value: Uint8Array): void {
    this.#room(value.length);
    this.bytes.set(value, this.length);
    this.length += value.length;
  }

  sized(value: Uint8Array): void {
    this.u32(value.length);
    this.raw(value);
  }

  text(value: string): void {
    this.sized(Buffer.from(value, 'utf8'));
  }

  #room(size: number): void {
    if (this.length + size <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.bytes.length * 2, this.length + size));
    larger.set(this.bytes.subarray(0, this.length));
    this.#hold(larger);
  }

  #hold(bytes: Buffer): void {
    this.bytes = bytes;
    this.view = viewOf(bytes);
  }
}

/**
 * Reads one packet, from `at` to `end` of these bytes; throws a RangeError past its end. Byte strings that it gives are
 * views of a packet of its own, and copies from one that lies among others.
 */
export class Reader {
  readonly #bytes: Buffer;
  #at: number;
  readonly #end: number;
  readonly #isShared: boolean;

  constructor(bytes: Buffer, at = 0, end: number = bytes.length) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
    this.#isShared = end - at < bytes.length;
  }

  u8(): number {
    return this.#bytes[this.#advance(1)] as number;
  }

  u32(): number {
    return this.#bytes.readUInt32LE(this.#advance(4));
  }

  /** A CK_ULONG; above 2^53 only as exact as a number can be, which is enough for CK_UNAVAILABLE_INFORMATION. */
  u64(): number {
    const low = this.u32();
    return this.u32() * 0x1_0000_0000 + low;
  }

  raw(size: number): Buffer {
    const from = this.#advance(size);
    if (!this.#isShared) return this.#bytes.subarray(from, from + size);
    const value = Buffer.allocUnsafe(size);
    this.#bytes.copy(value, 0, from, from + size);
    return value;
  }

  sized(): Buffer {
    return this.raw(this.u32());
  }

  /** Text in a fixed field: without the blanks (or NULs, from careless libraries) that pad it. */
  paddedText(): string {
    return this.sized()
      .toString('utf8')
      .replace(/[\0 ]+$/u, '');
  }

  list<T>(item: (reader: Reader) => T): T[] {
    const count = this.u32();
    const items: T[] = [];
    for (let i = 0; i < count; i += 1) items.push(item(this));
    return items;
  }

  #advance(size: number): number {
    const from = this.#at;
    if (size > this.#end - from) throw new RangeError('the packet is too short');
    this.#at = from + size;
    return from;
  }
}
