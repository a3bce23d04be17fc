import type { Connection } from './connection.js';

/** Position of a member: the time of the latest change that its token has, and the record that tells it. */
export class MemberPosition {
  /** Time of the latest change, as the record was read or written; 0 without a record, undefined if unread. */
  time: number | undefined;
  /** Number of comparisons of the member with another one. */
  comparisons: number = 0;
  /** Time of the latest change that this process has given the member, which may be on its way yet. */
  given: number = 0;
  #record: { readonly connection: Connection; readonly epoch: number; readonly handle: Uint8Array } | undefined;

  /** Returns the record's real handle; undefined if it is not known, or of another login (Rule 13). */
  handleOn(connection: Connection | undefined): Uint8Array | undefined {
    const record = this.#record;
    return record?.connection === connection && record?.epoch === connection?.epoch ? record?.handle : undefined;
  }

  /** Keeps the record's real handle, which belongs to a login. */
  keepHandle(connection: Connection, epoch: number, handle: Uint8Array): void {
    this.#record = { connection, epoch, handle };
  }

  /** Forgets the record's real handle. */
  forgetHandle(): void {
    this.#record = undefined;
  }

  /** Takes the time that was read on the token. */
  take(time: number): void {
    this.time = time;
  }

  /** Notes that the member was compared with another one. */
  noteComparison(): void {
    this.comparisons += 1;
  }

  /** Returns the time of the latest change that the member is given, this one included. */
  give(time: number): number {
    this.given = Math.max(this.given, this.time ?? 0, time);
    return this.given;
  }

  /** Notes the time that was written on the token. */
  advance(time: number): void {
    this.time = Math.max(this.time ?? 0, time);
  }
}
