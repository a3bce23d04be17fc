import { fileURLToPath } from 'node:url';
import { compile, compiledPath } from '../compile.js';

/** Path of the compiled module. */
export const hostileModule = compiledPath('hostile.so');

/** Compiles the hostile module if it is older than its source. */
export function buildHostile() {
  const native = fileURLToPath(new URL('../../../native', import.meta.url));
  const source = fileURLToPath(new URL('./hostile.cc', import.meta.url));
  compile(source, 'hostile.so', ['-std=c++20', '-shared', '-fPIC', '-O1', '-I', native], 'c++');
}
