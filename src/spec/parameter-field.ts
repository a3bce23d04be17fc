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
