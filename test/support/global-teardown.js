import { rmSync } from 'node:fs';

// Removes what the files of a run have shared.
export default function globalTeardown() {
  rmSync(process.env.PKCS11_HA_TEST_RUN, { recursive: true, force: true });
}
