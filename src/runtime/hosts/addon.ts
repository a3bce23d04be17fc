import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** The application's end of the channel to one host; see native/addon/channel.h. */
export interface NativeChannel {
  readonly hostSocket: number;
  readonly page: number;
  readonly ended: boolean;
  /** Where `receive` puts packets. */
  readonly inbox: Buffer;
  closeHostEnds(): void;
  /** 0: sent, 1: would block, 2: the host is gone */
  send(message: Uint8Array, length: number, secret?: NativeSecret): 0 | 1 | 2;
  /**
   * Puts packets into the inbox, each after its size in four bytes, as many as fit; gives how many bytes they are. A
   * size of 0 stands for one that `takeLarge` gives.
   */
  receive(): number;
  takeLarge(): Buffer;
  lanes(): { lane: number; job: number; since: number; longWrite: boolean }[];
  watch(callback: () => void): void;
  ref(): void;
  unref(): void;
  close(): void;
}

/** Bytes in memory that is locked, kept out of core dumps, and wiped; see native/addon/secret.h. */
export interface NativeSecret {
  readonly length: number;
  /** In a time that tells nothing of the bytes, only of the lengths. Throws when either has been wiped. */
  equals(other: NativeSecret): boolean;
  wipe(): void;
}

interface Addon {
  readonly Channel: new () => NativeChannel;
  readonly Secret: {
    new (bytes: Uint8Array): NativeSecret;
    /** A new secret with the bytes of both, to be wiped as they are. Throws when either has been wiped. */
    joined(first: NativeSecret, second: NativeSecret): NativeSecret;
  };
  waitReadable(channels: readonly NativeChannel[], timeoutMs: number, spinUs: number): boolean;
  /** Hosts of a worker, to be ended and reaped with it; see native/addon/child_reaper.h. */
  noteHost(pid: number): void;
  forgetHost(pid: number): void;
  /** Holds a name of 1 to 106 bytes among the machine's processes; -1 where another one does. See native/addon/claim.h. */
  claim(name: string): number;
  releaseClaim(descriptor: number): void;
  /** How a child has ended; null when it has not, within so many ms (100 at most). */
  processEnd(pid: number, within: number): { code: number | null; signal: number | null } | null;
}

// Tests load the parts that were built with sanitizers.
const build: URL =
  process.env.PKCS11_HA_NATIVE === undefined
    ? new URL('../../../build/Release/', import.meta.url)
    : pathToFileURL(`${process.env.PKCS11_HA_NATIVE}/`);

export const addon: Addon = createRequire(import.meta.url)(fileURLToPath(new URL('pkcs11_ha.node', build))) as Addon;

/** The executable that loads a member's library. */
export const hostExecutable: string = fileURLToPath(new URL('pkcs11-ha-host', build));
