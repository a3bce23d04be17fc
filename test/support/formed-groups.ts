import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Hsm } from './softhsm.js';

/** Folder of this run of the tests (see global-setup.js), which the global teardown removes. */
const shared = process.env.PKCS11_HA_TEST_RUN ?? mkdtempSync(join(tmpdir(), 'pkcs11-ha-run-'));
/** Files of one worker run one after the other, so that no two tests use copies of one group at once. */
const worker = process.env.JEST_WORKER_ID ?? '1';

/**
 * Returns the tokens of a group that a run forms once per worker and shape; tests copy them. Forming takes 1.5 s, more
 * than most tests: members make RSA key pairs, and the ways in which keys travel are tried.
 */
export async function formedGroup(
  shape: string,
  form: (folder: string) => Promise<readonly Hsm[]>,
): Promise<readonly Hsm[]> {
  const file = join(shared, `${worker} ${shape}.json`);
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as readonly Hsm[];
  const hsms = await form(mkdtempSync(join(shared, `${worker}-`)));
  writeFileSync(file, JSON.stringify(hsms));
  return hsms;
}
