/**
 * One field of a mechanism's parameter, in the order of the C structure. The host (native/host/mechanism.cc)
 * lays the fields out and knows no structure; `returned` are bytes that the token may change.
 */
export type Field =
  | { readonly kind: 'number'; readonly value: number | bigint }
  | { readonly kind: 'flag'; readonly value: boolean }
  | { readonly kind: 'inlined' | 'pointed'; readonly value: Uint8Array }
  /** `target`: the application's own bytes, where `value` is a copy of them. */
  | { readonly kind: 'returned'; readonly value: Uint8Array; readonly target?: Uint8Array }
  /** An object by its virtual handle: a member gets the real one; see `bindObjects`. */
  | { readonly kind: 'object'; readonly handle: Uint8Array };
