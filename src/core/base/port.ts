import type { Job, JobReply, SecretRef } from '../../spec/job.js';
import type { GroupEvent } from './event.js';
import { type Alarm, type Running, Signal, type Task } from './task.js';

/** Public key, in the encoding of PKCS#11 attributes. */
export interface PublicMaterial {
  /** CKA_KEY_TYPE. */
  readonly keyType: number;
  /** DER of the EC parameters. */
  readonly params: Uint8Array;
  /** EC point without its OCTET STRING; for a DSA key the public value. */
  readonly point: Uint8Array;
  /** Domain parameters of a DSA key. */
  readonly prime: Uint8Array;
  readonly subprime: Uint8Array;
  readonly base: Uint8Array;
}

/** End of a host, described for people. */
export interface HostEnd {
  readonly reason: string;
}

/** Job that a lane of a host has begun and not finished. */
export interface BegunJob {
  /** Id of the job. */
  readonly job: number;
  /** Start time (ms of the port's clock). */
  readonly since: number;
  /** True if the job writes token objects or makes keys, and may take longer than other jobs (Rule 9). */
  readonly longWrite: boolean;
}

/** Link to a running host. */
export interface HostLink {
  /** Process id of the host, for people. */
  readonly pid: number | undefined;
  /** Names of environment variables that the host did not get and a library might have wanted. */
  readonly withheld: readonly string[];
  /**
   * Sends a job; returns false if the channel is full. Throws for a job that cannot be encoded. The host does not begin
   * a job whose `epoch` is not that of its last login. If the host is gone, the job is lost and the listener hears of
   * the end.
   */
  send(id: number, deadline: number, job: Job, epoch: number): boolean;
  /** Returns the jobs that lanes have begun and not finished, also after the host has died. */
  begun(): readonly BegunJob[];
  /** Tells the host to begin no more jobs, and to end as soon as it writes no token object. */
  leave(): void;
  /** Kills the host at once. */
  kill(): void;
  /** Closes the channel; the host then ends by itself. */
  close(): void;
}

/** Listener to a host. `ended` comes once, after the last reply, when the process no longer holds the token. */
export interface HostListener {
  /** Returns false for a reply that answers none of the jobs that are out: the host then ends. */
  replied(reply: JobReply): boolean;
  ended(end: HostEnd): void;
}

/** Rights of a confined host, beside reading and running what libraries need of the system (Linux Landlock). */
export interface SandboxConfig {
  /** Files and folders that the library may read and run too. */
  readonly read: readonly string[];
  /** Files and folders that the library may write. */
  readonly write: readonly string[];
  /** TCP ports that the library may connect to, and no others; undefined: any. */
  readonly connect?: readonly number[] | undefined;
}

/** Options for starting a member's host. */
export interface HostOptions {
  /** Name of the member. */
  readonly name: string;
  /** Environment variables that the host gets beside those of this process. */
  readonly env: Readonly<Record<string, string>>;
  /** Path of the library that the host will load. */
  readonly module: string;
  /** Confinement of the host; undefined: none. */
  readonly sandbox: SandboxConfig | undefined;
}

/** Store of PINs, in memory that is locked, and wiped after use. */
export interface SecretStore {
  /** Copies the bytes into the store. The caller wipes its own bytes. */
  make(bytes: Uint8Array): SecretRef;
  /** Makes a new secret from the bytes of both. */
  joined(first: SecretRef, second: SecretRef): SecretRef;
  areEqual(one: SecretRef, other: SecretRef): boolean;
  wipe(secret: SecretRef): void;
  /** Reads the PIN again from the source that the configuration names. */
  readAgain(): PinReading;
}

/** Administration keys, which sign the records of groups (Rule 19). Keys and signatures are in hexadecimal. */
export interface Authority {
  /** Returns the public keys whose signatures count for a group's record; undefined if this process knows none. */
  keysFor(group: string): readonly string[] | undefined;
  /** Checks an Ed25519 signature. */
  verify(key: string, statement: Uint8Array, signature: string): boolean;
  /** Returns true if the private key of a group has a source. */
  canSign(group: string): boolean;
  /** Gets a key for a group that is being created; returns the reason if there is none that this process can use. */
  prepare(group: string): string | undefined;
  /** Forgets the key that was made for a group whose creation has failed. */
  discard(group: string): void;
  /** Signs a statement with the group's private key, which is read from its source for this. */
  sign(group: string, statement: Uint8Array): Signing;
}

/** Signing of a statement. Completes with the signature and its public key, or with the reason for having none. */
export class Signing extends Signal {
  signature: { readonly key: string; readonly value: string } | undefined;
  problem: string = '';
}

/** All that core needs from outside. Runtime implements it; tests script it on virtual time. */
export interface Port {
  /** Returns the time of a monotonic clock (ms, with fractions). */
  now(): number;
  /** Returns a random number x, 0 ≤ x < 1. */
  random(): number;
  /** Starts a task; runs it until it first waits. */
  start<T>(task: Task<T>): Running<T>;
  alarm(): Alarm;
  /**
   * Has the task that runs now decide what follows when its caller gives up: if `decide` returns true, the task goes on
   * and ends by itself. Returns the function that ends this. Throws the reason of an abort that was deferred before.
   */
  deferAbort(decide: () => boolean): () => void;
  startHost(options: HostOptions, listener: HostListener): HostLink;
  /** Keeps the process alive until `release`: work runs that no caller waits for. */
  hold(): void;
  release(): void;
  sha256(bytes: Uint8Array): Uint8Array;
  randomBytes(size: number): Uint8Array;
  /**
   * Checks an ECDSA or DSA signature (r ‖ s over the SHA-256 of `data`), or one of Ed25519 or Ed448. Returns undefined
   * if the signature cannot be checked.
   */
  verifySignature(key: PublicMaterial, data: Uint8Array, signature: Uint8Array): boolean | undefined;
  /** Returns the time of the wall clock (ms), for records that other machines read. */
  wallNow(): number;
  readonly secrets: SecretStore;
  readonly authority: Authority;
  emit(event: GroupEvent): void;
  /** Reports an error of this process that no caller waits for. */
  warn(error: unknown): void;
}

/** Reading of the PIN from its source. Completes with the secret, or without one if the reading failed. */
export class PinReading extends Signal {
  secret: SecretRef | undefined;
}
