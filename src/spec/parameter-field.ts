/**
 * Field of a mechanism's parameter; fields come in the order of the C structure. The host (native/host/mechanism.cc)
 * lays the fields out and knows no structure. The token may change the bytes of a `returned` field.
 */
export type Field =
  | { readonly kind: 'number'; readonly value: number | bigint }
  | { readonly kind: 'flag'; readonly value: boolean }
  | { readonly kind: 'inlined' | 'pointed'; readonly value: Uint8Array }
  /** `target` is the application's own buffer if `value` is a copy of that buffer. */
  | { readonly kind: 'returned'; readonly value: Uint8Array; readonly target?: Uint8Array }
  /** Object by virtual handle; `bindObjects` replaces the field by a number, the real handle. */
  | { readonly kind: 'object'; readonly handle: Uint8Array };

/** Largest CK_ULONG. */
const LARGEST = 2n ** 64n - 1n;

/**
 * Returns a number as the CK_ULONG of a parameter. For a number that is no size (negative, NaN or too large) that is
 * the largest one, which tokens refuse: 0 would mean no salt or no tag.
 */
export function sizeOf(given: number): number | bigint {
  const whole = Math.trunc(given);
  return whole >= 0 && whole <= Number.MAX_SAFE_INTEGER ? whole : LARGEST;
}
