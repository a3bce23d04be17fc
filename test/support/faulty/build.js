// Compiles the faulty module when it is older than its source.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

export const faultyModule = join(here, '../../../build/test/faulty.so');

export function buildFaulty() {
  const source = join(here, 'faulty.c');
  if (existsSync(faultyModule) && statSync(faultyModule).mtimeMs > statSync(source).mtimeMs) return;
  const headers = join(dirname(createRequire(import.meta.url).resolve('pkcs11js/package.json')), 'includes/pkcs11');
  mkdirSync(dirname(faultyModule), { recursive: true });
  const partial = `${faultyModule}.${process.pid}`;
  const flags = ['-shared', '-fPIC', '-O1', '-g', '-Wall', '-Wextra', '-I', headers];
  execFileSync('cc', [...flags, '-o', partial, source, '-ldl', '-lpthread'], { stdio: 'inherit' });
  // Put in place whole: another run may be loading it.
  renameSync(partial, faultyModule);
}
