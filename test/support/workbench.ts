import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import type { Ended } from './cli.js';
import { faultyModule } from './faulty/build.js';
import { type Folder, type Hsm, makeFolder, makeHsm } from './softhsm.js';

/** Tokens for tests of the tool, all behind the faulty module: three, and one for backups; and their configurations. */
export class Workbench {
  readonly folder: Folder;
  #hsms: readonly Hsm[] = [];

  constructor(name: string) {
    this.folder = makeFolder(name);
  }

  /** Makes the tokens. */
  readonly make = async (): Promise<void> => {
    const labels = ['hsm1', 'hsm2', 'hsm3', 'backup'];
    this.#hsms = await Promise.all(labels.map((label) => makeHsm(this.folder.path, label, { pin: '81924610' })));
  };

  /** Returns a token by its number; 3 is the backup token. */
  readonly hsm = (index: number): Hsm => {
    const found = this.#hsms[index];
    if (found === undefined) throw new Error('no such token');
    return found;
  };

  /** Returns the path of a token's file of faults. */
  readonly controlOf = (index: number): string => join(this.folder.path, `control${index}`);

  /** Path of the file with the faults that all tokens have met. */
  get met(): string {
    return join(this.folder.path, 'met');
  }

  /** Writes a configuration of some of the tokens, with comments; returns its path. */
  readonly configure = (name: string, indices: readonly number[], more = ''): string => {
    const path = join(this.folder.path, name);
    const pin = join(this.folder.path, `${name}.pin`);
    writeFileSync(pin, `${this.hsm(0).pin}\n`, { mode: 0o600 });
    const members = indices.map(
      (index) => `  - name: hsm${index + 1} # number ${index + 1}
    module: ${faultyModule}
    token: { serial: "${this.hsm(index).serial}" }
    env: ${JSON.stringify(this.#environmentOf(index))}
`,
    );
    const text = `# the group of the tests\nlabel: ${name}\npin: { file: ${pin} }\nmembers:\n${members.join('')}policy:\n  hangAfter: 2s\n${more}`;
    writeFileSync(path, text);
    return path;
  };

  /** Returns the options that name a token on the command line. */
  readonly tokenOptions = (index: number): string[] => [
    '--module',
    faultyModule,
    '--serial',
    this.hsm(index).serial,
    ...Object.entries(this.#environmentOf(index)).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
  ];

  #environmentOf(index: number): Record<string, string> {
    const { env, module } = this.hsm(index);
    return { ...env, FAULTY_MODULE: module, FAULTY_CONTROL: this.controlOf(index), FAULTY_LOG: this.met };
  }
}

/** Expects that an error is one line, with advice after a semicolon and without a stack trace. */
export function expectOneLine({ stderr }: Ended): void {
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(stderr).toMatch(/^pkcs11-ha: .+; .+\n$/u);
  expect(stderr).not.toMatch(/\bat .+:\d+:\d+|node:internal/u);
}

/** Parses the output of a program as JSON. */
// biome-ignore lint/suspicious/noExplicitAny: the tests check the shapes
export const json = ({ stdout }: Ended): any => JSON.parse(stdout);
