import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, test } from '@jest/globals';
import { program } from '../../support/cli.js';
import { makeFolder } from '../../support/softhsm.js';
import { comparable, play, readScenes } from '../../support/story.js';

const docs = (name: string): string => new URL(`../../../docs/${name}`, import.meta.url).pathname;
const folder = makeFolder('manual');
afterAll(() => folder.remove());

const LONG = 300_000;

test('docs/commands.md is the text of --help of all commands', async () => {
  const manual = new URL('../../../dist/faces/cli/manual.js', import.meta.url).href;
  const code = `import { makeManual } from '${manual}'; process.stdout.write(makeManual());`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code]);
  expect(readFileSync(docs('commands.md'), 'utf8')).toBe(stdout);
});

/** Returns an environment in which pkcs11-ha is found by its name, as an installed one. */
function environment(): NodeJS.ProcessEnv {
  const bin = join(folder.path, 'bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, 'pkcs11-ha'), `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`);
  chmodSync(join(bin, 'pkcs11-ha'), 0o755);
  const { PKCS11_HA_CONFIG: _unused, ...rest } = process.env;
  return { ...rest, PATH: `${bin}${delimiter}${process.env.PATH}`, HOME: folder.path, XDG_CONFIG_HOME: folder.path };
}

test(
  'the commands of docs/from-luna.md print the output that the page shows',
  async () => {
    const place = join(folder.path, 'story');
    mkdirSync(place);
    const env = environment();
    const handles: string[][] = [];
    for (const scene of readScenes(readFileSync(docs('from-luna.md'), 'utf8'))) {
      let { lines, code } = await play(scene, place, env);
      const isJoining = (): boolean =>
        scene.command === 'pkcs11-ha status' && lines.some((line) => / joining /u.test(line));
      // Repeats a status that met a member just trying to come back.
      for (let tries = 0; isJoining() && tries < 100; tries += 1) ({ lines, code } = await play(scene, place, env));
      const [shown, wanted] = [comparable(lines), comparable(scene.output)];
      const where = `from-luna.md:${scene.line}`;
      // Looks for the wanted lines within a terminal's output, which has each question several times.
      if (scene.typed.length === 0) expect([where, code, shown]).toEqual([where, scene.exits, wanted]);
      else
        expect([where, code, wanted.filter((line) => !shown.join(' ').includes(line))]).toEqual([
          where,
          scene.exits,
          [],
        ]);
      if (scene.command === 'pkcs11-ha objects')
        handles.push(lines.flatMap((line) => /^\d+(?=\s+SECRET_KEY)/u.exec(line)?.[0] ?? []).sort());
    }
    // Compares handles before and after the restore, which the page's text leaves out.
    expect(handles.at(-1)).toEqual(handles.at(-2));
    expect(handles.at(-1)).toHaveLength(4);
  },
  LONG,
);
