import { createRequire } from 'node:module';
import { join } from 'node:path';

/** Application's end of the channel to a host; see native/addon/channel.h. */
export interface NativeChannel {
  readonly hostSocket: number;
  readonly page: number;
  readonly ended: boolean;
  /** True once the host has sent what no host sends; from then on `receive` takes nothing. */
  readonly broken: boolean;
  /** Buffer that `receive` fills with packets. */
  readonly inbox: Buffer;
  closeHostEnds(): void;
  /** Sends a packet. Returns 0 if it was sent, 1 if that would block, 2 if the host is gone. */
  send(message: Uint8Array, length: number, secret?: NativeSecret): 0 | 1 | 2;
  /**
   * Puts as many packets into the inbox as fit, each after its size in four bytes, and returns the number of bytes
   * used. A size of 0 stands for a large packet, which `takeLarge` returns.
   */
  receive(): number;
  /** Returns the next large packet that `receive` announced; undefined if the host has passed none, and breaks then. */
  takeLarge(): Buffer | undefined;
  lanes(): { lane: number; job: number; since: number; longWrite: boolean }[];
  watch(callback: () => void): void;
  ref(): void;
  unref(): void;
  close(): void;
}

/** Bytes in memory that is locked, excluded from core dumps, and wiped; see native/addon/secret.h. */
export interface NativeSecret {
  readonly length: number;
  /** Compares in a time that depends on the lengths only. Throws if either secret was wiped. */
  equals(other: NativeSecret): boolean;
  /** Returns a copy of the bytes, which the caller wipes. Throws if the secret was wiped. */
  copy(): Buffer;
  wipe(): void;
}

interface Addon {
  readonly Channel: new () => NativeChannel;
  readonly Secret: {
    new (bytes: Uint8Array): NativeSecret;
    /** Makes a new secret of the bytes of both, which the caller wipes too. Throws if either secret was wiped. */
    joined(first: NativeSecret, second: NativeSecret): NativeSecret;
    /**
     * Makes a new secret of an environment variable's first line. If `erases` is true, erases the value that the process
     * was started with; later calls return the same. Undefined if the variable is not set, or is empty and was never
     * read.
     */
    fromEnvironment(name: string, erases: boolean): NativeSecret | undefined;
  };
  waitReadable(channels: readonly NativeChannel[], timeoutMs: number, spinUs: number): boolean;
  /**
   * Notes a host that a worker started, so that it is ended and reaped with the worker; see
   * native/addon/child_reaper.h.
   */
  noteHost(pid: number): void;
  forgetHost(pid: number): void;
  /**
   * Claims a name of 1 to 106 bytes among the machine's processes. Returns a descriptor, or -1 if the name is taken;
   * see native/addon/claim.h.
   */
  claim(name: string): number;
  releaseClaim(descriptor: number): void;
  /**
   * Takes a lock on one byte of a file, without waiting; see native/addon/file_lock.h. Returns false if another open
   * file description holds a lock that excludes this one. The lock ends when the last descriptor of the open file
   * description is closed. Throws for an error of the system.
   */
  lockByte(descriptor: number, byte: number, exclusive: boolean): boolean;
  /** Returns true if another open file description holds any lock on that byte of the file. */
  isByteLocked(descriptor: number, byte: number): boolean;
  /** Reads CLOCK_BOOTTIME (ms, with fractions), which goes on while the machine is suspended. */
  bootTime(): number;
  /** Makes a pipe; returns the descriptors of its reading end, which does not wait, and of its writing end. */
  pipe(): [number, number];
  /** Waits up to `within` ms (100 at most) for a child to end, and tells how; null if the child still runs. */
  processEnd(pid: number, within: number): { code: number | null; signal: number | null } | null;
}

// Lets tests load the native parts that were built with sanitizers.
const folder = process.env.PKCS11_HA_NATIVE;
const require = createRequire(import.meta.url);

export const addon: Addon = require(folder === undefined ? '#addon' : join(folder, 'pkcs11_ha.node')) as Addon;

/** Path of the executable that loads a member's library. */
export const hostExecutable: string = folder === undefined ? require.resolve('#host') : join(folder, 'pkcs11-ha-host');
