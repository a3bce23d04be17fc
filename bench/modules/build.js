import { fileURLToPath } from 'node:url';
import { compile } from '../../test/support/compile.js';

/** Compiles the module that does nothing; returns its path. */
export function buildEmpty() {
  const source = fileURLToPath(new URL('./empty.c', import.meta.url));
  return compile(source, 'empty.so', ['-shared', '-fPIC', '-O2']);
}
