import type { GroupConfigInput } from '../../../src/index.js';
import type { ObjectSpec } from '../keys.js';
import type { Hsm } from '../softhsm.js';

export interface Side {
  readonly path: string;
  readonly pin: string;
  readonly env: Readonly<Record<string, string>>;
}

export function makeObjects(): readonly ObjectSpec[];
export function makeSingle(folder: string, objects: readonly ObjectSpec[]): Promise<Side>;
export function makeMembers(
  folder: string,
  objects: readonly ObjectSpec[],
  more?: (hsm: Hsm) => object,
): Promise<Side & { readonly hsms: readonly Hsm[]; readonly configuration: GroupConfigInput }>;
