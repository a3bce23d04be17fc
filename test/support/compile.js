// Compiles a C or C++ program or module for tests and benches, if it is older than its source.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../../build/test/', import.meta.url));

/** Returns the path of a compiled program or module. */
export const compiledPath = (name) => join(folder, name);

/** Compiles a source if it is newer than its result; returns the result's path. */
export function compile(source, name, flags, compiler = 'cc') {
  const target = compiledPath(name);
  if (existsSync(target) && statSync(target).mtimeMs > statSync(source).mtimeMs) return target;
  const headers = join(dirname(createRequire(import.meta.url).resolve('pkcs11js/package.json')), 'includes/pkcs11');
  mkdirSync(folder, { recursive: true });
  const partial = `${target}.${process.pid}`;
  const always = ['-g', '-Wall', '-Wextra', '-I', headers];
  execFileSync(compiler, [...always, ...flags, '-o', partial, source, '-ldl', '-lpthread'], { stdio: 'inherit' });
  // Replaces the result in one step, since another run may be loading it.
  renameSync(partial, target);
  return target;
}
