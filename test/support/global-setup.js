import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { buildFaulty } from './faulty/build.js';

// Tests that start programs of their own run what is built.
export default function globalSetup() {
  buildFaulty();
  const root = fileURLToPath(new URL('../../', import.meta.url));
  execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'], {
    cwd: root,
    stdio: 'inherit',
  });
}
