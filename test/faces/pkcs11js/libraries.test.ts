import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createGroup, type GroupConfigInput } from '../../../src/index.js';
import { makeMembers, makeObjects, type Side } from '../../support/differential/tokens.js';
import { HA_LOG, makeReplaced, runReplaced } from '../../support/replaced.js';
import { makeFolder } from '../../support/softhsm.js';

const programOf = (name: string): string =>
  fileURLToPath(new URL(`../../support/programs/${name}.cjs`, import.meta.url));

const folder = makeFolder('libraries');
let group: Side & { readonly configuration: GroupConfigInput };
beforeAll(async () => {
  group = await makeMembers(folder.path, makeObjects());
  Object.assign(process.env, group.env);
  await createGroup(group.configuration);
  const { policy } = group.configuration;
  // Raises hangAfter: no call hangs here, and a busy machine must not cost a member that is coming back.
  const patient = { ...policy, hangAfter: 5000 };
  const log = { file: join(folder.path, HA_LOG) };
  writeFileSync(group.path, JSON.stringify({ ...group.configuration, policy: patient, slots: 'all', log }));
  makeReplaced(folder.path);
});
afterAll(() => folder.remove());

/** Returns the number of checks that passed in each round. */
const rounds = (lines: readonly string[]): readonly number[] =>
  ['all there', 'the first one killed', 'the second one killed'].map(
    (round) => lines.filter((line) => line.startsWith(`${round}: `)).length,
  );

test('graphene-pk11 runs unchanged, also while members are killed', async () => {
  const { path, pin, env } = group;
  const lines = await runReplaced(folder.path, programOf('graphene'), { path, pin }, env);
  expect(rounds(lines)).toEqual([8, 8, 8]);
});

test('node-webcrypto-p11 runs unchanged, also while members are killed, and finds stored keys in the next process', async () => {
  const { path, pin, env } = group;
  const certificate = makeCertificate(folder.path);
  const lines = await runReplaced(folder.path, programOf('webcrypto'), { path, pin, certificate }, env);
  expect(rounds(lines)).toEqual([9, 9, 9]);
  const stored = lines.at(-1)?.replace('stored ', '');
  const again = await runReplaced(folder.path, programOf('webcrypto'), { path, pin, stored }, env);
  expect(again).toEqual(['signed 64']);
});

function makeCertificate(path: string): string {
  const file = join(path, 'certificate.der');
  execFileSync(
    'openssl',
    `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -subj /CN=test -outform der -out ${file}`.split(
      ' ',
    ),
    { stdio: 'ignore' },
  );
  return readFileSync(file).toString('base64');
}
