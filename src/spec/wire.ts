/** Initial size of a writer's buffer (bytes). */
const INITIAL_SIZE = 4096;
/** Maximum size of a buffer that a writer keeps for the next packet (bytes). */
const MOST_KEPT = 1024 ** 2;

function viewOf({ buffer, byteOffset, length }: Buffer): DataView {
  return new DataView(buffer, byteOffset, length);
}

/**
 * Writes packets of the channel, little endian; native/host/wire.h reads them.
 *
 * A single writer serves all packets: its bytes are valid until the next `reset`.
 */
export class Writer {
  bytes: Buffer = Buffer.allocUnsafeSlow(INITIAL_SIZE);
  length: number = 0;
  private view: DataView = viewOf(this.bytes);

  reset(): this {
    // Memory of a large packet is released.
    if (this.bytes.length > MOST_KEPT) this.hold(Buffer.allocUnsafeSlow(INITIAL_SIZE));
    this.length = 0;
    return this;
  }

  u8(value: number): void {
    this.room(1);
    this.bytes[this.length++] = value;
  }

  u32(value: number): void {
    this.room(4);
    this.view.setUint32(this.length, value, true);
    this.length += 4;
  }

  /** Writes a CK_ULONG; a number is exact up to 2^53, a bigint always. */
  u64(value: number | bigint): void {
    this.room(8);
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
    this.room(value.length);
    this.bytes.set(value, this.length);
    this.length += value.length;
  }

  /** Writes bytes after their length. */
  sized(value: Uint8Array): void {
    this.u32(value.length);
    this.raw(value);
  }

  text(value: string): void {
    this.sized(Buffer.from(value, 'utf8'));
  }

  private room(size: number): void {
    if (this.length + size <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.bytes.length * 2, this.length + size));
    larger.set(this.bytes.subarray(0, this.length));
    this.hold(larger);
  }

  private hold(bytes: Buffer): void {
    this.bytes = bytes;
    this.view = viewOf(bytes);
  }
}

/**
 * Reads a packet from `at` to `end` of the bytes; throws a RangeError past the end. Byte strings are views if the
 * packet has the buffer for itself, and copies if other packets share the buffer.
 */
export class Reader {
  private readonly bytes: Buffer;
  private at: number;
  private readonly end: number;
  private readonly isShared: boolean;

  constructor(bytes: Buffer, at = 0, end: number = bytes.length) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
    this.isShared = end - at < bytes.length;
  }

  u8(): number {
    return this.bytes[this.advance(1)] as number;
  }

  u32(): number {
    return this.bytes.readUInt32LE(this.advance(4));
  }

  /** Reads a CK_ULONG; above 2^53 the number is rounded, which is enough for CK_UNAVAILABLE_INFORMATION. */
  u64(): number {
    const low = this.u32();
    return this.u32() * 0x1_0000_0000 + low;
  }

  raw(size: number): Buffer {
    const from = this.advance(size);
    if (!this.isShared) return this.bytes.subarray(from, from + size);
    const value = Buffer.allocUnsafe(size);
    this.bytes.copy(value, 0, from, from + size);
    return value;
  }

  /** Reads bytes after their length. */
  sized(): Buffer {
    return this.raw(this.u32());
  }

  /** Reads the text of a fixed field, without the blanks (or NULs, from careless libraries) that pad it. */
  paddedText(): string {
    return this.sized()
      .toString('utf8')
      .replace(/[\0 ]+$/u, '');
  }

  /** Reads items after their number; RangeError if there are more than `most`. */
  list<T>(item: (reader: Reader) => T, most: number = Number.MAX_SAFE_INTEGER): T[] {
    const count = this.u32();
    if (count > most) throw new RangeError('the list is too long');
    const items: T[] = [];
    for (let i = 0; i < count; i += 1) items.push(item(this));
    return items;
  }

  private advance(size: number): number {
    const from = this.at;
    if (size > this.end - from) throw new RangeError('the packet is too short');
    this.at = from + size;
    return from;
  }
}
