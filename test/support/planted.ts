import { CKO } from '../../src/spec/codes.js';
import type { Cluster } from './cluster.js';
import type { ObjectSpec } from './keys.js';
import { provision } from './softhsm.js';

/** Parsed record, as it stands on a token. */
export interface Parsed {
  readonly kind?: unknown;
  readonly revision?: unknown;
  readonly sequence?: unknown;
  readonly note?: unknown;
  readonly members?: unknown;
  readonly domain?: unknown;
  readonly pending?: unknown;
}

/** Returns the records of a kind on a member. */
export async function recordsOn(cluster: Cluster, name: string, kind: string): Promise<readonly Parsed[]> {
  const { values } = await provision(cluster.member(name).hsm, { values: true });
  return values
    .filter((value) => value !== '')
    .map((value) => JSON.parse(Buffer.from(value, 'hex').toString()) as Parsed)
    .filter((record) => record.kind === kind);
}

/** Plants objects on a member, apart from the group. */
export async function plant(cluster: Cluster, name: string, ...objects: readonly ObjectSpec[]): Promise<void> {
  await provision(cluster.member(name).hsm, { objects });
}

/** Returns a data object with the value of a record. */
export function dataObject(label: string, value: unknown, isPrivate: boolean, application = 'pkcs11-ha'): ObjectSpec {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return { CLASS: CKO.data, TOKEN: true, PRIVATE: isPrivate, LABEL: label, APPLICATION: application, VALUE: text };
}
