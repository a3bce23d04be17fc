import { ck } from './constants.js';

/**
 * What may be repeated: `pure` may run again anywhere; `stateful` signatures use up a piece of their key, so
 * that a second run elsewhere would be a forgery's half: once, and never after an unknown outcome. `replicated`
 * is what changes objects on all members: after an unknown outcome it is reconciled, see core/change.ts.
 */
export type Aspect = 'pure' | 'stateful' | 'replicated';

const stateful: ReadonlySet<number> = new Set([ck('CKM_HSS'), ck('CKM_XMSS'), ck('CKM_XMSSMT')]);

export function aspectOf(operation: string, mechanism: number | undefined): Aspect {
  return operation === 'C_Sign' && mechanism !== undefined && stateful.has(mechanism) ? 'stateful' : 'pure';
}
