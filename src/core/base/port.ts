import type { Job, JobReply, SecretRef } from '../../spec/job.js';
import type { GroupEvent } from './event.js';
import { type Alarm, type Running, Signal, type Task } from './task.js';

/** A public key as PKCS#11 attributes hold it. */
export interface PublicMaterial {
  readonly keyType: number;
  /** DER of the EC parameters, and the point without its OCTET STRING; of a DSA key the public value. */
  readonly params: Uint8Array;
  readonly point: Uint8Array;
  /** Domain parameters of a DSA key. */
  readonly prime: Uint8Array;
  readonly subprime: Uint8Array;
  readonly base: Uint8Array;
}

/** How a host ended: what is known of it, for people. */
export interface HostEnd {
  readonly reason: string;
}

/** A job that has begun on a lane of a host. */
export interface BegunJob {
  readonly job: number;
  /** ms of the port's clock */
  readonly since: number;
  /** It writes token objects or makes keys, and may take longer than other jobs (Rule 9). */
  readonly longWrite: boolean;
}

/** The way to one running host. */
export interface HostLink {
  /** The host's process, for people who look for it. */
  readonly pid: number | undefined;
  /**
   * False when the channel is full: nothing was sent. A host that is gone swallows the job; its end is told.
   * The host does not begin a job whose `epoch` is not that of its last login. Throws for what cannot be sent.
   */
  send(id: number, deadline: number, job: Job, epoch: number): boolean;
  /** The jobs that lanes have begun and not finished; also after the host has died. */
  begun(): readonly BegunJob[];
  /** Tells the host to end as soon as no token object is being written, and to begin nothing more. */
  leave(): void;
  kill(): void;
  /** Lets go of the host without a word: it ends by itself. */
  close(): void;
}

/** What a host tells. `ended` comes once, after the last reply, when the process holds nothing any more. */
export interface HostListener {
  replied(reply: JobReply): void;
  ended(end: HostEnd): void;
}

/** What a member's host needs to start. */
export interface HostOptions {
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
}

/** PINs, in memory that is locked and wiped. */
export interface SecretStore {
  /** A copy of the bytes; to wipe these is the caller's affair. */
  make(bytes: Uint8Array): SecretRef;
  /** A new one, with the bytes of both. */
  joined(first: SecretRef, second: SecretRef): SecretRef;
  areEqual(one: SecretRef, other: SecretRef): boolean;
  wipe(secret: SecretRef): void;
  /** Reads the PIN again from where the configuration says that it is. */
  readAgain(): PinReading;
}

/** All that core needs of the world. Runtime implements it; tests script it on virtual time. */
export interface Port {
  /** Monotonic, ms, with fractions. */
  now(): number;
  /** 0 ≤ x < 1 */
  random(): number;
  start<T>(task: Task<T>): Running<T>;
  alarm(): Alarm;
  startHost(options: HostOptions, listener: HostListener): HostLink;
  /** Between these two, something goes on without a caller: the process has to stay. */
  hold(): void;
  release(): void;
  sha256(bytes: Uint8Array): Uint8Array;
  randomBytes(size: number): Uint8Array;
  /** Checks an ECDSA or DSA (r ‖ s over the SHA-256 of `data`) or Ed25519/Ed448 signature; undefined: cannot tell. */
  verifySignature(key: PublicMaterial, data: Uint8Array, signature: Uint8Array): boolean | undefined;
  /** The wall clock, ms: for records that other hosts read. */
  wallNow(): number;
  /** This process, for the records that it writes. */
  readonly writer: string;
  /** Whether the process that wrote a record is gone; undefined when that cannot be told from here. */
  isWriterGone(writer: string): boolean | undefined;
  /**
   * Holds a name among the processes of this machine (of this network namespace), until it is released or this
   * process ends; undefined where another one holds it.
   */
  claim(name: string): (() => void) | undefined;
  readonly secrets: SecretStore;
  emit(event: GroupEvent): void;
  /** Something went wrong here that no caller waits for. */
  warn(error: unknown): void;
}

/** The PIN being read from its source; settles with it, or without where it could not be had. */
export class PinReading extends Signal {
  secret: SecretRef | undefined;
}
