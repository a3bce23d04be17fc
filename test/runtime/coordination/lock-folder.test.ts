import {
  chmodSync,
  chownSync,
  closeSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ConfigurationError } from '../../../src/core/configuration/validation.js';
import { fileNameOf, LockFolder } from '../../../src/runtime/coordination/local/lock-folder.js';
import { CommandedProgram } from '../../support/commanded.js';
import { type Folder, makeFolder } from '../../support/softhsm.js';

/** User and group that own nothing: those of `nobody` on many systems. */
const NOBODY = 65_534;
const PERMISSIONS = 0o7777;
const VARIABLE = 'PKCS11_HA_LOCKS';
const isRoot = process.geteuid?.() === 0;
const asRoot = isRoot ? test : test.skip;

let folder: Folder;
let path: string;
const base = process.env[VARIABLE];

beforeEach(() => {
  folder = makeFolder('lock-folder');
  path = join(folder.path, 'locks');
});
afterEach(() => {
  process.env[VARIABLE] = base;
  folder.remove();
});

const modeOf = (name: string): number => lstatSync(name).mode & PERMISSIONS;

/** Returns the error of opening a lock folder. */
function refusal(setting: string | undefined): unknown {
  try {
    LockFolder.open(setting, 'group');
  } catch (error) {
    return error;
  }
  return undefined;
}

describe('the folder that is configured', () => {
  test('is made and used, for this user alone', () => {
    const locks = LockFolder.open(path, 'group');
    expect(locks).toMatchObject({ path, problem: undefined, fileMode: 0o600 });
    expect([path, join(path, 'claims'), join(path, 'writers')].map(modeOf)).toEqual([0o700, 0o700, 0o700]);
    expect(readdirSync(path).sort()).toEqual(['claims', 'id', 'writers']);
  });

  test('has one id, also for processes that open it at the same moment', async () => {
    const programs = Array.from(
      { length: 3 },
      () => new CommandedProgram<{ readonly writer: string }>('coordinator', ['group', path]),
    );
    try {
      const told = await Promise.all(programs.map(({ ready }) => ready));
      const { id } = LockFolder.open(path, 'group');
      expect(id).toMatch(/^[0-9a-f]{16}$/u);
      expect(told.map(({ writer }) => writer.split(':')[5])).toEqual([id, id, id]);
      expect(LockFolder.open(join(folder.path, 'elsewhere'), 'group').id).not.toBe(id);
    } finally {
      await Promise.all(programs.map((program) => program.end()));
    }
  });

  test('passes on its Unix group and the right to write, whatever the umask', () => {
    mkdirSync(path);
    chmodSync(path, 0o2770);
    const umask = process.umask(0o077);
    try {
      const locks = LockFolder.open(path, 'group');
      expect(locks.fileMode).toBe(0o660);
      closeSync(locks.create(join(path, 'file')));
      locks.makeFolder(join(path, 'claims', 'name'));
    } finally {
      process.umask(umask);
    }
    expect(['claims', 'writers', 'claims/name'].map((name) => modeOf(join(path, name)))).toEqual([
      0o2770, 0o2770, 0o2770,
    ]);
    expect(['id', 'file'].map((name) => modeOf(join(path, name)))).toEqual([0o660, 0o660]);
  });

  test.each<readonly [string, string, () => void]>([
    [
      'can be written by every user',
      'can be written by every user',
      () => {
        mkdirSync(path);
        chmodSync(path, 0o1777);
      },
    ],
    [
      'is a link to a folder',
      'is not a folder',
      () => {
        mkdirSync(join(folder.path, 'aim'));
        symlinkSync(join(folder.path, 'aim'), path);
      },
    ],
    ['is a file', 'is not a folder', () => writeFileSync(path, '')],
    [
      'is in no folder',
      'ENOENT',
      () => {
        path = join(folder.path, 'missing', 'locks');
      },
    ],
  ])('is refused if it %s; the error names the setting', (_, reason, make) => {
    make();
    const error = refusal(path);
    expect(error).toBeInstanceOf(ConfigurationError);
    expect((error as Error).message).toBe(`locks: the folder for lock files ${path} cannot be used: ${reason}`);
  });

  asRoot('is refused if it belongs to another user, unless its Unix group has this process', () => {
    mkdirSync(path);
    chownSync(path, NOBODY, NOBODY);
    chmodSync(path, 0o2770);
    expect(refusal(path)).toBeInstanceOf(ConfigurationError);
    expect((refusal(path) as Error).message).toContain(`belongs to another user (uid ${NOBODY})`);
    chownSync(path, NOBODY, process.getegid?.() ?? 0);
    chmodSync(path, 0o750);
    expect(refusal(path)).toBeInstanceOf(ConfigurationError);
    chmodSync(path, 0o2770);
    expect(LockFolder.open(path, 'group').fileMode).toBe(0o660);
  });
});

describe('the folder by default', () => {
  test('is below the one that a variable names, which is made; the error names the variable', () => {
    process.env[VARIABLE] = path;
    expect(LockFolder.open(undefined, 'group').path).toBe(join(path, 'group'));
    expect(LockFolder.open(join(folder.path, 'set'), 'group').path).toBe(join(folder.path, 'set'));
    process.env[VARIABLE] = join(path, 'group', 'id');
    expect(refusal(undefined)).toBeInstanceOf(ConfigurationError);
    expect((refusal(undefined) as Error).message).toMatch(/^PKCS11_HA_LOCKS: the folder for lock files /u);
  });

  test.each(['../../escape', '..', '.', 'a/b', '.hidden', 'group one', 'grün', '%2E'])(
    'is below it for the label %p',
    (label) => {
      process.env[VARIABLE] = path;
      const { path: opened } = LockFolder.open(undefined, label);
      expect(readdirSync(path).map((name) => join(path, name))).toEqual([opened]);
      expect(fileNameOf(label)).toMatch(/^[^./][^/]*$/u);
    },
  );

  test('is another one for another label', () => {
    const labels = ['.', '..', '%2E', 'a/b', 'a%2Fb', 'a', 'A', ''];
    expect(new Set(labels.map(fileNameOf)).size).toBe(labels.length);
  });

  test("is in this user's folder if there is no shared one, and says so", async () => {
    const runtime = join(folder.path, 'runtime');
    mkdirSync(runtime, { mode: 0o700 });
    if (isRoot) {
      // Runs the program as a user that cannot make the shared folder.
      chmodSync(folder.path, 0o711);
      chownSync(runtime, NOBODY, NOBODY);
    }
    const { [VARIABLE]: _, ...rest } = process.env;
    const env = { ...rest, XDG_RUNTIME_DIR: runtime };
    const label = `group/${process.pid}`;
    const program = new CommandedProgram<{ readonly path: string; readonly problem: string }>(
      'coordinator',
      [label],
      isRoot ? { env, user: NOBODY } : { env },
    );
    try {
      const { path: opened, problem } = await program.ready;
      expect(opened).toBe(join(runtime, 'pkcs11-ha', fileNameOf(label)));
      expect(problem).toMatch(/^processes of other users are not excluded: \/run\/pkcs11-ha\/group%2F\d+ /u);
      expect(problem).toContain('set locks');
      expect(modeOf(join(runtime, 'pkcs11-ha'))).toBe(0o700);
    } finally {
      await program.end();
    }
  });
});
