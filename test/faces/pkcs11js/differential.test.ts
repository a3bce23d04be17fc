import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createGroup, type GroupConfigInput } from '../../../src/index.js';
import { differences } from '../../support/differential/differences.js';
import { makeMembers, makeObjects, makeSingle, type Side } from '../../support/differential/tokens.js';
import { makeFolder } from '../../support/softhsm.js';

const program = fileURLToPath(new URL('../../support/differential/run.js', import.meta.url));

interface Seen {
  readonly name: string;
  readonly log: readonly unknown[];
  readonly state: readonly string[];
  readonly calls: number;
  /** True if a host was killed during the case. */
  readonly killed?: boolean;
  /** True if the case ended before the call at which the host was to be killed. */
  readonly isBeyond?: boolean;
}

// EVERY_CALL=1/4 kills before each call of each case in the first quarter of the cases, which takes some minutes.
const isWhole = process.env.EVERY_CALL !== undefined;
const [part = 1, parts = 1] = (process.env.EVERY_CALL ?? '').split('/').map(Number);

async function run(library: string, side: Side, more: object = {}): Promise<ReadonlyMap<string, Seen>> {
  return new Map((await runAll(library, side, more)).map((seen) => [seen.name, seen]));
}

// Environment of pkcs11js: if it cannot read a mechanism's parameter, it frees memory that it never wrote, and survives
// only if malloc gives zeros. It also runs without the sanitizers, which are for this package's code.
const forOriginal = { LD_PRELOAD: '', GLIBC_TUNABLES: 'glibc.malloc.tcache_count=0:glibc.malloc.perturb=255' };

async function runAll(library: string, { path, pin, env }: Side, more: object): Promise<readonly Seen[]> {
  const child = spawn(process.execPath, [program, library], {
    env: { ...process.env, ...env, ...(library === 'pkcs11js' ? forOriginal : {}) },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const chunks: Buffer[] = [];
  let cases = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    if (!isWhole) return;
    // Reports the progress of the long run.
    for (const byte of chunk) if (byte === 0x0a && ++cases % 100 === 0) process.stderr.write(`${library}: ${cases}\n`);
  });
  child.stdin.end(JSON.stringify({ path, pin, ...more }));
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`${library} ended with ${code}`);
  const lines = Buffer.concat(chunks).toString().trim().split('\n');
  return lines.map((line) => JSON.parse(line) as Seen);
}

/** Returns the differences that are not documented; adds the names of documented differences to `met`. */
function compare(theirs: ReadonlyMap<string, Seen>, ours: ReadonlyMap<string, Seen>, met: Set<string>): string[] {
  const faults: string[] = [];
  for (const [name, seen] of theirs) {
    const own = ours.get(name);
    if (own === undefined || own.log.length !== seen.log.length) {
      faults.push(`${name}: ${own?.log.length} entries instead of ${seen.log.length}`);
      continue;
    }
    for (const [at, entry] of seen.log.entries()) {
      const one = typeof entry === 'string' ? entry : JSON.stringify(entry);
      const other = typeof own.log[at] === 'string' ? (own.log[at] as string) : JSON.stringify(own.log[at]);
      if (one === other) continue;
      const known = differences.find(({ isIt }) => isIt(one, other, name));
      if (known === undefined) faults.push(`${name} [${at}]\n  - ${one}\n  + ${other}`);
      else met.add(known.name);
    }
    if (seen.state.join('\n') !== own.state.join('\n'))
      faults.push(`${name}: afterwards\n  - ${seen.state.join(', ')}\n  + ${own.state.join(', ')}`);
  }
  return faults;
}

const folder = makeFolder('differential');
let theirs: ReadonlyMap<string, Seen>;
let single: Side;
let group: Side & { readonly configuration: GroupConfigInput };
beforeAll(async () => {
  const objects = makeObjects();
  single = await makeSingle(folder.path, objects);
  group = await makeMembers(folder.path, objects);
  Object.assign(process.env, group.env);
  await createGroup(group.configuration);
  theirs = await run('pkcs11js', single);
});
afterAll(() => folder.remove());

describe('the same script on pkcs11js over a token and on the virtual slot', () => {
  test('gives the same results but for documented differences', async () => {
    const met = new Set<string>();
    expect(compare(theirs, await run('pkcs11-ha', group), met)).toEqual([]);
    expect(theirs.size).toBeGreaterThanOrEqual(400);
    expect([...met].sort()).toEqual(differences.map(({ name }) => name).sort());
  });

  test(
    'gives the same results with a member killed during it',
    async () => {
      const killed: Record<string, readonly number[]> = {};
      const names = [...theirs].filter(([, { calls }]) => calls > 0).map(([name]) => name);
      // Leaves out cases of wrong arguments, which ask no member, and C_SetPIN, which needs all members.
      const other = /^C_\w+: (?:arity|kinds of|no such|without a library)|^C_SetPIN/u;
      const asking = names.filter((name) => !other.test(name));
      const sample = isWhole
        ? asking.filter((_name, index) => index % parts === part - 1)
        : asking.filter(() => Math.random() < 14 / asking.length);
      if (!isWhole) {
        for (const name of sample) {
          const { calls = 1 } = theirs.get(name) ?? {};
          killed[name] = [Math.floor(Math.random() * calls)];
        }
      }
      const seen = await runAll('pkcs11-ha', group, { only: sample, kill: killed });
      expect(seen.length).toBeGreaterThanOrEqual(sample.length - 2);
      expect(seen.filter(({ killed, isBeyond }) => !killed && !isBeyond).map(({ name }) => name)).toEqual([]);
      for (const each of seen) {
        const faults = compare(
          new Map([[each.name, theirs.get(each.name) as Seen]]),
          new Map([[each.name, each]]),
          new Set(),
        );
        expect([...faults, JSON.stringify(killed[each.name])]).toEqual([JSON.stringify(killed[each.name])]);
      }
    },
    isWhole ? 7_200_000 : 180_000,
  );

  test('finds all documented differences in docs/pkcs11js.md', () => {
    const text = readFileSync(fileURLToPath(new URL('../../../docs/pkcs11js.md', import.meta.url)), 'utf8');
    const plain = text.replaceAll('`', '').toLowerCase();
    for (const { name } of differences) expect(plain).toContain(`| ${name.toLowerCase()} `);
  });

  test.each(['verify is always true', 'another error code'])('notices a class that is broken: %s', async (broken) => {
    // Takes the cases that show it: the broken class changes answers of C_Verify and C_SignInit.
    const some = [...theirs].filter(([, { log }]) => /SIGNATURE_INVALID|OPERATION_ACTIVE/u.test(JSON.stringify(log)));
    const seen = await run('pkcs11-ha', group, { broken, only: some.map(([name]) => name) });
    expect(seen.size).toBe(some.length);
    expect(compare(new Map(some), seen, new Set()).length).toBeGreaterThan(0);
  });
});
