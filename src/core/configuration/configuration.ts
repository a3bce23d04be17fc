import type { Verdict } from '../../spec/verdict.js';

/** How work is spread: pick two and take the less busy, one after the other, or the first while it is there. */
export type Balance = 'leastOutstanding' | 'roundRobin' | 'primary';

/** Which token of a module: exactly one of them. `slot` counts the slots that have a token, from 0. */
export interface TokenSelector {
  readonly serial?: string | undefined;
  readonly label?: string | undefined;
  readonly slot?: number | undefined;
}

export interface MemberConfig {
  readonly name: string;
  /** Path of the vendor's PKCS#11 library. */
  readonly module: string;
  readonly token: TokenSelector;
  /** Set in the member's host process only. */
  readonly env: Readonly<Record<string, string>>;
  /** Handed to C_Initialize as pReserved, for the libraries that ask for it. */
  readonly libraryParameters: string;
  /** Its share of the work, in proportion to the others'. */
  readonly weight: number;
  /** Serves only when no active member is left. */
  readonly standby: boolean;
  /** Out of service until an operator says otherwise. */
  readonly drained: boolean;
  /** Threads with a session each, capped by the token's session limit. */
  readonly lanes: number;
  /** Whether writes of token objects run alone in the host (Rule 5); `auto`: on libraries known to need it. */
  readonly exclusiveWrites: boolean | 'auto';
}

/**
 * What becomes of the wrapped form in which a key travelled that the application asked to be non-extractable:
 * kept for members that come later, thrown away, or no such keys at all.
 */
export type NonExtractable = 'sealed' | 'unsealed' | 'refuse';

/** Where the PIN comes from; never the PIN itself. */
export interface PinReference {
  readonly env?: string | undefined;
  readonly file?: string | undefined;
  /** A program with its arguments, or a line for /bin/sh; its first line of output is the PIN. */
  readonly command?: string | readonly string[] | undefined;
}

/** Where a token is that is none of the members, and its PIN, where it has another than they have. */
export interface BackupTokenConfig {
  readonly config: MemberConfig;
  readonly pin: PinReference | undefined;
}

/** Times in ms, sizes in bytes. */
export interface Policy {
  /** The budget of a call that states none. */
  readonly deadline: number;
  /** A call that is out longer than this has hung its host, which is then replaced. */
  readonly hangAfter: number;
  /** The same for a call that writes token objects or makes keys, which must not be ended early. */
  readonly writeHangAfter: number;
  readonly balance: Balance;
  /** Whether a late attempt gets company before its member is known to be in trouble. */
  readonly hedge: boolean;
  /** After how long an attempt is late. */
  readonly attemptTimeout: number | 'adaptive';
  /** How much of a multi-part operation is kept for running it again elsewhere. */
  readonly replayLimit: number;
  /** Verdicts on codes of the members' vendors. */
  readonly verdicts: ReadonlyMap<number, Verdict>;
  /** For how long what is known of the members' objects is believed before a find looks again. */
  readonly freshness: number;
  readonly nonExtractable: NonExtractable;
  /** Whether a key that no token can wrap may be copied by its value, where that can be read. */
  readonly clearCopy: 'allow' | 'refuse';
  /** `external`: keys are copied by the vendor's own tool; here they are made on one member and aligned. */
  readonly replication: 'wrap' | 'external';
  /** Whether a member that was lost comes back by itself, or when it is told to. */
  readonly recovery: 'auto' | 'manual';
  /** Whether a member serves that has missed changes which nobody can tell it just now. */
  readonly stale: 'serve' | 'refuse';
  /** How many members must have a new object before a call succeeds. */
  readonly durability: 'all' | number;
}

/** Where events are written down: see docs/operation.md. */
export interface LogConfig {
  readonly file: string;
  /** Bytes; a file that is longer is moved out of the way. */
  readonly maxSize: number;
  /** How many of these are kept. */
  readonly keep: number;
}

export interface GroupConfig {
  /** The virtual token's label: 1 to 32 bytes. */
  readonly label: string;
  /** The virtual token's serial: 1 to 16 characters; made from the label where none is given. */
  readonly serial: string | undefined;
  readonly members: readonly MemberConfig[];
  /** Without it nobody logs in, and private objects do not exist. */
  readonly pin: PinReference | undefined;
  /** Without it nothing is written. */
  readonly log: LogConfig | undefined;
  /** What pkcs11js's API shows: the group's virtual slot, or its members' own slots too. */
  readonly slots: 'virtual' | 'all';
  readonly policy: Policy;
}

/** A time in ms, or as `'500ms'`, `'10s'`, `'2min'`. */
export type DurationInput = number | string;

/** A configuration as it may be written, in YAML or as an object: what has a default may be left out. */
export interface GroupConfigInput {
  readonly label: string;
  readonly serial?: string;
  readonly members: readonly (Pick<MemberConfig, 'name' | 'module' | 'token'> & Partial<MemberConfig>)[];
  readonly pin?: PinReference;
  readonly log?: {
    readonly file: string;
    /** Bytes, or as `'512KiB'`, `'10MiB'`. */
    readonly maxSize?: number | string;
    readonly keep?: number;
  };
  readonly slots?: 'virtual' | 'all';
  readonly policy?: {
    readonly deadline?: DurationInput;
    readonly hangAfter?: DurationInput;
    readonly writeHangAfter?: DurationInput;
    readonly balance?: Balance;
    readonly hedge?: boolean;
    readonly attemptTimeout?: DurationInput;
    /** Bytes, or as `'512KiB'`, `'1MiB'`. */
    readonly replayLimit?: number | string;
    /** By the name or number of the code: `{ CKR_FUNCTION_FAILED: 'member' }`. */
    readonly verdicts?: Readonly<Record<string, Verdict>>;
    readonly freshness?: DurationInput;
    readonly nonExtractable?: NonExtractable;
    readonly clearCopy?: 'allow' | 'refuse';
    readonly replication?: 'wrap' | 'external';
    readonly durability?: 'all' | number;
    readonly recovery?: 'auto' | 'manual';
    readonly stale?: 'serve' | 'refuse';
  };
}
