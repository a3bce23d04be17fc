import type { TokenObject, VirtualToken } from '../../../src/index.js';

export type Operation = 'generate' | 'generatePair' | 'create' | 'set' | 'setData' | 'destroy';

export function prepare(token: VirtualToken, operation: Operation, label: string): Promise<TokenObject | undefined>;
export function run(
  token: VirtualToken,
  operation: Operation,
  label: string,
  prepared: TokenObject | undefined,
): Promise<unknown>;
