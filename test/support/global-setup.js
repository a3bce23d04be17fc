import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import { buildFaulty } from './faulty/build.js';
import { buildHostile } from './hostile/build.js';
import { memoryFolder } from './memory-folder.js';

/**
 * Chooses the folder for tokens, and compiles the faulty module, the hostile one and the package: tests that start programs run the built
 * files.
 */
export default function globalSetup() {
  buildFaulty();
  buildHostile();
  process.env.TMPDIR = process.env.TMPDIR ?? memoryFolder() ?? tmpdir();
  const root = fileURLToPath(new URL('../../', import.meta.url));
  for (const script of ['node_modules/typescript/bin/tsc', 'scripts/bundle-tool.js']) {
    const args = script.endsWith('tsc') ? ['-p', 'tsconfig.build.json'] : [];
    execFileSync(process.execPath, [script, ...args], { cwd: root, stdio: 'inherit' });
  }
  buildSync({
    absWorkingDir: root,
    entryPoints: ['test/support/programs/service.js'],
    outdir: 'build/test-programs',
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    external: ['#*'],
  });
  // Made last: without a set-up that succeeds there is no teardown.
  process.env.PKCS11_HA_TEST_RUN = mkdtempSync(join(tmpdir(), 'pkcs11-ha-run-'));
}
