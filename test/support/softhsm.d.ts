import type { ObjectSpec } from './keys.js';

/** SoftHSM token that stands for an HSM; `env` selects it. */
export interface Hsm {
  readonly label: string;
  readonly directory: string;
  readonly module: string;
  readonly env: Readonly<Record<string, string>>;
  readonly pin: string;
  readonly soPin: string;
  readonly serial: string;
}

/** Temporary folder; `remove` deletes it with its contents. */
export interface Folder {
  readonly path: string;
  remove(): void;
}

export function softhsmModule(): string;
export function makeFolder(name: string): Folder;
export function makeHsm(
  folder: string,
  label: string,
  options?: { readonly pin?: string; readonly soPin?: string; readonly objects?: readonly ObjectSpec[] },
): Promise<Hsm>;
/** Returns the token in a directory that holds one already. */
export function hsmIn(directory: string, token: Pick<Hsm, 'label' | 'serial' | 'pin' | 'soPin'>): Hsm;
export function copyHsm(hsm: Hsm, folder: string): Hsm;
export function provision(
  hsm: Hsm,
  request: {
    readonly initialize?: boolean;
    /** Empties the token; its serial stays. */
    readonly reinitialize?: boolean;
    readonly objects?: readonly ObjectSpec[];
    readonly destroy?: readonly string[];
    /** Reads the values of all data objects, in hexadecimal. */
    readonly values?: boolean;
  },
): Promise<{ readonly serial: string; readonly objects: number; readonly values: readonly string[] }>;

/** Object as pkcs11js reads it from the token, in a process of its own. */
export interface ReadObject {
  readonly class: number;
  readonly type: number;
  readonly label: string;
  readonly id: string;
  readonly flags: readonly string[];
  /** Digest that is equal for equal keys. */
  readonly fingerprint: string;
  /** Answers of C_WrapKey and of reading CKA_VALUE: CKR_OK or an error's message. */
  readonly wrapped: string;
  readonly value: string;
}

export function readToken(hsm: Hsm): Promise<readonly ReadObject[]>;
