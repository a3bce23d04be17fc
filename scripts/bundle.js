// Bundles modules of this working tree into one file; dependencies stay outside.
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** Root of the working tree. */
export const root = fileURLToPath(new URL('..', import.meta.url));

/** Bundles a module, given by its path from the root, into a file; `plugins` are esbuild's. */
export async function bundle(entry, outfile, plugins = []) {
  await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    external: ['#*'],
    logLevel: 'warning',
    plugins,
  });
}
