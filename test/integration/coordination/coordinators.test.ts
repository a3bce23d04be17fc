import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { CommandedProgram, namespaceProblem } from '../../support/commanded.js';
import { type Folder, makeFolder } from '../../support/softhsm.js';

/** User and group that own nothing: those of `nobody` on many systems. */
const NOBODY = 65_534;
/** Limit of a wait for a claim (ms): longer than any test takes. */
const LONG = 60_000;

interface Ready {
  readonly writer: string;
  readonly path: string;
  readonly problem?: string;
}
type Surroundings = ConstructorParameters<typeof CommandedProgram>[2];

const namespaces = namespaceProblem();
if (namespaces !== undefined)
  console.warn(`Skips the tests in other namespaces: unshare is not permitted (${namespaces}).`);
const isRoot = process.geteuid?.() === 0;

let folder: Folder;
let locks: string;
const programs: CommandedProgram<Ready>[] = [];
beforeEach(() => {
  folder = makeFolder('coordinators');
  locks = join(folder.path, 'locks');
});
afterEach(async () => {
  await Promise.all(programs.splice(0).map((program) => program.kill()));
  folder.remove();
});

/** Starts a coordinator in a process of its own. */
function start(surroundings?: Surroundings): CommandedProgram<Ready> {
  const program = new CommandedProgram<Ready>('coordinator', ['group', locks], surroundings);
  programs.push(program);
  return program;
}

/** Makes the lock folder as an administrator does for the users of a Unix group. */
function shareFolder(): void {
  chmodSync(folder.path, 0o711);
  mkdirSync(locks);
  chownSync(locks, 0, NOBODY);
  chmodSync(locks, 0o2770);
}

interface Case {
  readonly who: string;
  readonly one: Surroundings;
  readonly other: Surroundings;
  readonly isPossible: boolean;
  readonly prepare?: () => void;
}

const cases: readonly Case[] = [
  { who: 'two processes', one: {}, other: {}, isPossible: true },
  {
    who: 'two users with a folder of their Unix group',
    one: {},
    other: { user: NOBODY },
    isPossible: isRoot,
    prepare: shareFolder,
  },
  {
    who: 'two users, of which the other one comes first',
    one: { user: NOBODY },
    other: {},
    isPossible: isRoot,
    prepare: shareFolder,
  },
  {
    who: 'two PID, network and mount namespaces',
    one: { isFar: true },
    other: { isFar: true },
    isPossible: namespaces === undefined,
  },
  {
    who: 'a container and its machine',
    one: { isFar: true },
    other: {},
    isPossible: namespaces === undefined,
  },
];

describe.each(cases)('coordinators of $who', ({ one: first, other: second, isPossible, prepare }) => {
  const run = isPossible ? test : test.skip;

  run('[Rule 21] exclude each other; a claim of one that was killed is free', async () => {
    prepare?.();
    const one = start(first);
    await one.ready;
    const other = start(second);
    const [mine, theirs] = [await one.ready, await other.ready];
    expect([mine.problem, theirs.problem]).toEqual([undefined, undefined]);
    const fences = [await one.ask('claim', 'work', 0)];
    expect(await other.ask('claim', 'work', 0)).toBeUndefined();
    expect(await other.ask('holderOf', 'work')).toMatch(/^process \d+$/u);
    const waiting = other.ask('claim', 'work', LONG);
    await one.ask('release', 'work');
    fences.push(await waiting);
    expect(await one.ask('claim', 'work', 0)).toBeUndefined();
    expect([await one.ask('isWriterGone', theirs.writer), await other.ask('isWriterGone', mine.writer)]).toEqual([
      false,
      false,
    ]);
    await other.kill();
    fences.push(await one.ask('claim', 'work', 0));
    const [fence = 0] = fences as number[];
    expect(fences).toEqual([fence, fence + 1, fence + 2]);
    expect(await one.ask('isWriterGone', theirs.writer)).toBe(true);
    expect(await one.ask('isWriterEnding', theirs.writer)).toBe(false);
    // Removes what the killed one has left, and takes part at once.
    const next = start(second);
    await next.ready;
    expect(await next.ask('claim', 'work', 0)).toBeUndefined();
    await one.end();
    expect(await next.ask('isWriterGone', mine.writer)).toBe(true);
    expect(await next.ask('claim', 'work', 0)).toBe(fence + 3);
  });
});
