import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { run } from '../../support/cli.js';
import { faultyModule } from '../../support/faulty/build.js';
import { expectOneLine, Workbench } from '../../support/workbench.js';

const bench = new Workbench('cli-errors');
const { folder, hsm, configure, tokenOptions } = bench;
beforeAll(bench.make);
afterAll(() => bench.folder.remove());

describe('an error is one line with advice', () => {
  let path: string;
  let text: string;
  beforeAll(() => {
    path = configure('wrong', [0, 1], `# ${'and so on '.repeat(20_000)}\n`);
    text = readFileSync(path, 'utf8');
  });
  const everyCommand: readonly (readonly string[])[] = [
    ['verify'],
    ['status'],
    ['objects'],
    ['group', 'show'],
    ['group', 'delete', '--yes'],
    ['member', 'add', 'hsm3', '--module', 'm', '--slot', '0'],
    ['member', 'remove', 'hsm1', '--yes'],
    ['member', 'drain', 'hsm1'],
    ['member', 'undrain', 'hsm1'],
    ['member', 'standby', 'hsm1'],
    ['synchronize'],
    ['recover'],
    ['key', 'generate', 'aes-256', 'x'],
    ['key', 'destroy', 'x', '--yes'],
    ['key', 'test'],
    ['pin', 'change', '--new-pin-env', 'HOME'],
    ['backup', '--module', 'm', '--slot', '0'],
    ['restore', '--module', 'm', '--slot', '0'],
  ];

  test.each(everyCommand.map((args) => [args.join(' '), args] as const))(
    '%s: a missing or broken file',
    async (_name, args) => {
      // Gives each command one of the files, and `status` all of them.
      const files = [join(folder.path, 'nowhere.yaml'), folder.path, makeBroken()];
      const chosen = args[0] === 'status' ? files : [files[everyCommand.indexOf(args) % files.length] ?? ''];
      const results = await Promise.all(chosen.map((file) => run([...args, '--config', file])));
      for (const ended of results) {
        expect(ended.code).toBe(1);
        expectOneLine(ended);
      }
    },
  );

  function makeBroken(): string {
    const broken = join(folder.path, 'broken.yaml');
    writeFileSync(broken, 'label: x\nmembers: 5\ncolour: blue\n');
    return broken;
  }

  test('no configuration, or several', async () => {
    const empty = join(folder.path, 'empty');
    mkdirSync(join(empty, 'pkcs11-ha'), { recursive: true });
    const env = { HOME: empty, XDG_CONFIG_HOME: empty, PKCS11_HA_CONFIG: '' };
    const none = await run(['status'], { cwd: empty, env });
    expect([none.code, none.stderr]).toEqual([2, expect.stringMatching(/no configuration found/u)]);
    for (const name of ['a.yaml', 'b.yaml']) writeFileSync(join(empty, 'pkcs11-ha', name), '');
    const two = await run(['status'], { cwd: empty, env });
    expect([two.code, two.stderr]).toEqual([
      2,
      expect.stringMatching(/has 2 groups: .*a\.yaml, .*b\.yaml; choose one/u),
    ]);
  });

  test('[Rule 6] a wrong PIN is tried once, and reported', async () => {
    const pin = readFileSync(`${path}.pin`);
    writeFileSync(`${path}.pin`, 'not the PIN\n');
    try {
      for (const args of [['group', 'show'], ['objects'], ['key', 'test'], ['member', 'drain', 'hsm1']]) {
        const ended = await run([...args, '--config', path]);
        expect([ended.code, ended.stderr]).toEqual([
          1,
          expect.stringMatching(/CKR_PIN_INCORRECT.*check the source of the PIN/u),
        ]);
        expectOneLine(ended);
        expect(ended.stderr).not.toContain('not the PIN');
      }
      writeFileSync(`${path}.pin`, '\n');
      const ended = await run(['status', '--config', path]);
      expect([ended.code, ended.stderr]).toEqual([1, expect.stringMatching(/the PIN is empty/u)]);
    } finally {
      writeFileSync(`${path}.pin`, pin);
    }
  });

  test('an unknown member, and wrong commands', async () => {
    for (const [code, ...args] of [
      [1, 'member', 'drain', 'hsm9'],
      [1, 'member', 'remove', 'hsm9', '--yes'],
      [1, 'member', 'standby', 'hsm9'],
      [2, 'member', 'add', 'hsm1', '--module', 'm', '--slot', '0'],
      [2, 'member', 'add', 'hsm3'],
      [2, 'status', '--interval', 'often'],
      [2, 'objects', '--id', 'xyz'],
      [2, 'objects', '--class', 'nothing'],
      [2, 'key', 'generate', 'aes-512', 'x'],
      [2, 'completion', 'cmd'],
    ] as const) {
      const ended = await run([...args, '--config', path]);
      expect([args, ended.code]).toEqual([args, code]);
      expectOneLine(ended);
    }
    for (const args of [['nonsense'], ['status', '--nonsense'], ['member', 'drain'], ['key', 'generate', 'aes-256']]) {
      const ended = await run([...args, '--config', path]);
      expect([args, ended.code]).toEqual([args, 2]);
      expectOneLine(ended);
      const forPrograms = await run([...args, '--json', '--config', path]);
      expect(JSON.parse(forPrograms.stderr)).toMatchObject({ error: { advice: expect.any(String) } });
    }
    // Refuses options beside an existing file, since the file says everything.
    const there = await run(['group', 'create', path, '--label', 'other', '--existing', 'remove', '--yes']);
    expect([there.code, there.stderr]).toEqual([2, expect.stringMatching(/exists already: --label/u)]);
    expect(readFileSync(path, 'utf8')).toBe(text);
  });

  test('an unreachable token, and a missing library', async () => {
    const unreachable = await run([
      'member',
      'add',
      'hsm3',
      '--module',
      faultyModule,
      '--serial',
      'none',
      '--config',
      path,
    ]);
    expect(unreachable.code).toBe(1);
    expectOneLine(unreachable);
    const noLibrary = await run([
      'group',
      'create',
      join(folder.path, 'new.yaml'),
      '--label',
      'x',
      '--module',
      '/nowhere.so',
      '--slot',
      '0',
      '--pin-env',
      'HOME',
    ]);
    expect(noLibrary.code).toBe(1);
    expectOneLine(noLibrary);
    expect(existsSync(join(folder.path, 'new.yaml'))).toBe(false);
    expect(readFileSync(path, 'utf8')).toBe(text);
    expect(readdirSync(folder.path).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('a full disk leaves the file and the tokens as they were', async () => {
    // Limits files to a number of blocks of 512 bytes, which acts as a full disk for this process alone. The memory
    // that is shared with hosts is a file too, smaller than the configuration.
    const under = (blocks: number): string[] => ['sh', '-c', `trap '' XFSZ; ulimit -f ${blocks}; exec "$@"`, 'sh'];
    for (const [blocks, ...args] of [
      [0, 'member', 'standby', 'hsm1'],
      [300, 'member', 'add', 'hsm3', ...tokenOptions(2)],
      [0, 'member', 'remove', 'hsm2', '--yes'],
      [0, 'pin', 'change', '--new-pin-env', 'NEXT_PIN'],
    ] as const) {
      const ended = await run([...args, '--config', path], { under: under(blocks), env: { NEXT_PIN: '44444444' } });
      expect([args, ended.code, ended.stderr]).toEqual([args, 1, expect.stringMatching(/make room on the disk/u)]);
      expectOneLine(ended);
    }
    expect(readFileSync(path, 'utf8')).toBe(text);
    expect(readFileSync(`${path}.pin`, 'utf8')).toBe(`${hsm(0).pin}\n`);
    expect(readdirSync(folder.path).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('with --json the error is JSON', async () => {
    const ended = await run(['status', '--json', '--config', join(folder.path, 'nowhere.yaml')]);
    expect(JSON.parse(ended.stderr)).toMatchObject({
      error: { message: expect.any(String), advice: expect.any(String) },
    });
  });
});

test('a reader that closes the pipe, as `head` does, causes no stack trace', async () => {
  const path = configure('head', [0]);
  const ended = await run([], { under: ['bash', '-c', `"$@" objects --config ${path} | :`, 'sh'] });
  expect(ended.stderr).not.toMatch(/EPIPE|\bat .+:\d+:\d+/u);
});

test('a replaced file keeps its owner, its permissions and its links', async () => {
  const path = configure('kept', [0, 1]);
  const link = join(folder.path, 'link.yaml');
  symlinkSync(path, link);
  chmodSync(path, 0o640);
  const owner = process.getuid?.() === 0 ? 12_345 : (process.getuid?.() ?? 0);
  chownSync(path, owner, process.getgid?.() ?? 0);
  const under = ['sh', '-c', 'umask 077; exec "$@"', 'sh'];
  expect((await run(['member', 'standby', 'hsm2', '--config', link], { under })).code).toBe(0);
  expect(lstatSync(link).isSymbolicLink()).toBe(true);
  expect(readFileSync(path, 'utf8')).toMatch(/standby: true/u);
  expect([statSync(path).mode & 0o777, statSync(path).uid]).toEqual([0o640, owner]);
});
