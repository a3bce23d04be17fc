import { ck } from './constants.js';

/**
 * Repeatability of a call (Rule 6). A `pure` call may run again on any member. A `stateful` signature uses up a part of
 * its key, and two signatures with one part allow forgeries: after an unknown outcome the call is not repeated. A
 * `replicated` call changes objects on all members: after an unknown outcome the group reconciles the change.
 */
export type Aspect = 'pure' | 'stateful' | 'replicated';

const stateful: ReadonlySet<number> = new Set([ck('CKM_HSS'), ck('CKM_XMSS'), ck('CKM_XMSSMT')]);

/**
 * Returns the aspect of a call that changes no objects: `stateful` for C_Sign with a stateful mechanism, else `pure`.
 */
export function aspectOf(operation: string, mechanism: number | undefined): Aspect {
  return operation === 'C_Sign' && mechanism !== undefined && stateful.has(mechanism) ? 'stateful' : 'pure';
}
