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
  /** Whether a host was killed on the way. */
  readonly killed?: boolean;
  /** Whether the case had come to its end before that call. */
  readonly isBeyond?: boolean;
}

// EVERY_CALL=1/4: before each call of each case, of the first quarter of them; all take some minutes.
const isWhole = process.env.EVERY_CALL !== undefined;
const [part = 1, parts = 1] = (process.env.EVERY_CALL ?? '').split('/').map(Number);

async function run(library: string, side: Side, more: object = {}): Promise<ReadonlyMap<string, Seen>> {
  return new Map((await runAll(library, side, more)).map((seen) => [seen.name, seen]));
}

// pkcs11js frees the parameter of a mechanism that it could not read, from memory that it never wrote: it lives only where
// malloc gives zeros, which the C library does when told. Nor is it what the sanitizers are here for.
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
    // The long run tells how far it is.
    for (const byte of chunk) if (byte === 0x0a && ++cases % 100 === 0) process.stderr.write(`${library}: ${cases}\n`);
  });
  child.stdin.end(JSON.stringify({ path, pin, ...more }));
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`${library} ended with ${code}`);
  const lines = Buffer.concat(chunks).toString().trim().split('\n');
  return lines.map((line) => JSON.parse(line) as Seen);
}

/** What differs without being documented; the names of the documented differences that were met are added to `met`. */
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
  test('differs only where it is documented', async () => {
    const met = new Set<string>();
    expect(compare(theirs, await run('pkcs11-ha', group), met)).toEqual([]);
    expect(theirs.size).toBeGreaterThanOrEqual(400);
    expect([...met].sort()).toEqual(differences.map(({ name }) => name).sort());
  });

  test(
    'is the same with one of the members killed on the way',
    async () => {
      const killed: Record<string, readonly number[]> = {};
      const names = [...theirs].filter(([, { calls }]) => calls > 0).map(([name]) => name);
      // Wrong arguments end a call before any member is asked; a PIN is not changed while a member is away.
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

  test('the documented differences are in the documents', () => {
    const text = readFileSync(fileURLToPath(new URL('../../../docs/pkcs11js.md', import.meta.url)), 'utf8');
    const plain = text.replaceAll('`', '').toLowerCase();
    for (const { name } of differences) expect(plain).toContain(`| ${name.toLowerCase()} `);
  });

  test.each(['verify is always true', 'another error code'])('notices a class that is broken: %s', async (broken) => {
    // Those where it shows: what is broken is what C_Verify and C_SignInit say there.
    const some = [...theirs].filter(([, { log }]) => /SIGNATURE_INVALID|OPERATION_ACTIVE/u.test(JSON.stringify(log)));
    const seen = await run('pkcs11-ha', group, { broken, only: some.map(([name]) => name) });
    expect(seen.size).toBe(some.length);
    expect(compare(new Map(some), seen, new Set()).length).toBeGreaterThan(0);
  });
});
