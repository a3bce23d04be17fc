import { fileURLToPath } from 'node:url';
import { compile, compiledPath } from '../compile.js';

/** Path of the compiled module. */
export const faultyModule = compiledPath('faulty.so');

/** Compiles the faulty module if it is older than its source. */
export function buildFaulty() {
  compile(fileURLToPath(new URL('./faulty.c', import.meta.url)), 'faulty.so', ['-shared', '-fPIC', '-O1']);
}
