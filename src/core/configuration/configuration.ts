import type { Verdict } from '../../spec/verdict.js';
import type { SandboxConfig } from '../base/port.js';

/** Balancing of calls: the less busy of two random members, the members in turn, or the first usable member. */
export type Balance = 'leastOutstanding' | 'roundRobin' | 'primary';

/** Selector of a module's token, with exactly one field set. `slot` counts the slots that have a token, from 0. */
export interface TokenSelector {
  readonly serial?: string | undefined;
  readonly label?: string | undefined;
  readonly slot?: number | undefined;
}

/** Configuration of one member. */
export interface MemberConfig {
  readonly name: string;
  /** Path of the vendor's PKCS#11 library. */
  readonly module: string;
  readonly token: TokenSelector;
  /** Environment variables of the member's host process. */
  readonly env: Readonly<Record<string, string>>;
  /** Confinement of the member's host; undefined: the host may do what the application's user may do. */
  readonly sandbox?: SandboxConfig | undefined;
  /** String that C_Initialize gets as pReserved, for libraries that ask for one. */
  readonly libraryParameters: string;
  /** Share of the work, in proportion to the other members' weights. */
  readonly weight: number;
  /** True if the member serves only when no active member is left. */
  readonly standby: boolean;
  /** True if the member is out of service until an operator changes the configuration. */
  readonly drained: boolean;
  /** Number of lanes: threads with a session each, limited by the token's maximum of sessions. */
  readonly lanes: number;
  /** True if writes of token objects run alone in the host (Rule 5); `auto`: true for libraries known to need it. */
  readonly exclusiveWrites: boolean | 'auto';
}

/**
 * Treatment of keys that the application makes non-extractable: `sealed` keeps the wrapped form for members that come
 * later, `unsealed` does not keep it, `refuse` makes no such keys.
 */
export type NonExtractable = 'sealed' | 'unsealed' | 'refuse';

/** Source of the PIN, with exactly one field set; never the PIN itself. */
export interface PinReference {
  /** Name of an environment variable. */
  readonly env?: string | undefined;
  /** Path of a file. */
  readonly file?: string | undefined;
  /** Program with its arguments, or a line for /bin/sh; the first line of the output is the PIN. */
  readonly command?: string | readonly string[] | undefined;
}

/** Administration key, which signs the group's record (Rule 19). */
export interface AdministrationConfig {
  /** Public keys whose signatures count, in hexadecimal: one, and during a change of the key the next one too. */
  readonly publicKeys: readonly string[];
  /** Source of the private key, on hosts where the membership is changed. */
  readonly key: PinReference | undefined;
}

/** Backup token, which is no member of the group; `pin` is undefined if the token has the members' PIN. */
export interface BackupTokenConfig {
  readonly config: MemberConfig;
  readonly pin: PinReference | undefined;
}

/** Policy of a group; times in ms, sizes in bytes. */
export interface Policy {
  /** Budget of a call that states no deadline (ms). */
  readonly deadline: number;
  /** Time after which a call counts as hung; its host is then killed and replaced (ms). */
  readonly hangAfter: number;
  /** Time after which a call that writes token objects or makes keys counts as hung (ms, at least `hangAfter`). */
  readonly writeHangAfter: number;
  readonly balance: Balance;
  /** True if a late attempt gets a hedge although its member is still active. */
  readonly hedge: boolean;
  /** Time after which an attempt is late (ms), or `adaptive`: by the latency of such operations. */
  readonly attemptTimeout: number | 'adaptive';
  /** Maximum of the data of a multi-part operation that is kept for a second run on another member (bytes). */
  readonly replayLimit: number;
  /** Verdicts on vendors' codes, by code; they overrule the built-in ones. */
  readonly verdicts: ReadonlyMap<number, Verdict>;
  /** Time for which names, handles and missing keys are believed before a member is asked again (ms). */
  readonly freshness: number;
  readonly nonExtractable: NonExtractable;
  /** `allow`: copies a key that no token can wrap by its value, if the value can be read. */
  readonly clearCopy: 'allow' | 'refuse';
  /** `external`: keys are made on one member only, and the vendor's own tool copies them. */
  readonly replication: 'wrap' | 'external';
  /** Return of a lost member: by itself, or only when an operator tells the member to. */
  readonly recovery: 'auto' | 'manual';
  /** Service of a stale member, which missed changes that no reachable member can tell. */
  readonly stale: 'serve' | 'refuse';
  /** Number of members that must have a change before its call succeeds; `all`: all that serve (Rule 15). */
  readonly durability: 'all' | number;
}

/** Log of events, described in docs/operation.md. */
export interface LogConfig {
  readonly file: string;
  /** Maximum size (bytes); a longer file is renamed, and a new one begun. */
  readonly maxSize: number;
  /** Number of renamed files that are kept. */
  readonly keep: number;
}

/** Configuration of a group, checked, with every default filled in. */
export interface GroupConfig {
  /** Label of the virtual token: 1 to 32 bytes. */
  readonly label: string;
  /** Serial of the virtual token: 1 to 16 characters; undefined: made from the label. */
  readonly serial: string | undefined;
  readonly members: readonly MemberConfig[];
  /** Source of the PIN; undefined: no login, and so no private objects. */
  readonly pin: PinReference | undefined;
  /** Administration key; undefined: the one that this account keeps for a group that it has created. */
  readonly administration: AdministrationConfig | undefined;
  /** Log of events; undefined: no log. */
  readonly log: LogConfig | undefined;
  /** Folder of the group's lock files, the same for all its processes on a machine; undefined: the default one. */
  readonly locks: string | undefined;
  /** Slots that pkcs11js's API shows: the group's virtual slot, or the members' own slots too. */
  readonly slots: 'virtual' | 'all';
  readonly policy: Policy;
}

/** Time in ms, or text such as `'500ms'`, `'10s'`, `'2min'`. */
type DurationInput = number | string;

/** Settings of one member, as a person writes them. */
export type MemberInput = Pick<MemberConfig, 'name' | 'module' | 'token'> &
  Partial<Omit<MemberConfig, 'sandbox'>> & { readonly sandbox?: Partial<SandboxConfig> };

/** Configuration as a person writes it, in YAML or as an object. Settings with a default may be absent. */
export interface GroupConfigInput {
  readonly label: string;
  readonly serial?: string;
  readonly members: readonly MemberInput[];
  readonly pin?: PinReference;
  readonly administration?: {
    /** Public key of 64 hexadecimal digits; several during a change of the key. */
    readonly publicKey: string | readonly string[];
    /** Source of the private key, only where the membership is changed. */
    readonly key?: PinReference;
  };
  readonly log?: {
    readonly file: string;
    /** Size in bytes, or text such as `'512KiB'`, `'10MiB'`. */
    readonly maxSize?: number | string;
    readonly keep?: number;
  };
  /** Folder of the group's lock files; by default `/run/pkcs11-ha/<label>`. */
  readonly locks?: string;
  readonly slots?: 'virtual' | 'all';
  readonly policy?: {
    readonly deadline?: DurationInput;
    readonly hangAfter?: DurationInput;
    readonly writeHangAfter?: DurationInput;
    readonly balance?: Balance;
    readonly hedge?: boolean;
    readonly attemptTimeout?: DurationInput;
    /** Size in bytes, or text such as `'512KiB'`, `'1MiB'`. */
    readonly replayLimit?: number | string;
    /** Verdicts by the name or number of the code: `{ CKR_FUNCTION_FAILED: 'member' }`. */
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
