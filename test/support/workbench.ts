import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import type { Ended } from './cli.js';
import { faultyModule } from './faulty/build.js';
import { type Folder, type Hsm, makeFolder, makeHsm } from './softhsm.js';

/** What tests of the tool work on: three tokens, one for backups, all behind the faulty module, and configurations of them. */
export class Workbench {
  readonly folder: Folder;
  #hsms: readonly Hsm[] = [];

  constructor(name: string) {
    this.folder = makeFolder(name);
  }

  readonly make = async (): Promise<void> => {
    const labels = ['hsm1', 'hsm2', 'hsm3', 'backup'];
    this.#hsms = await Promise.all(labels.map((label) => makeHsm(this.folder.path, label, { pin: '81924610' })));
  };

  readonly hsm = (index: number): Hsm => {
    const found = this.#hsms[index];
    if (found === undefined) throw new Error('no such token');
    return found;
  };

  /** Where a token's faults are written. */
  readonly controlOf = (index: number): string => join(this.folder.path, `control${index}`);

  /** The faults that were met, by all of them. */
  get met(): string {
    return join(this.folder.path, 'met');
  }

  /** The path of a configuration of some of the tokens, with comments. */
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

  /** What names a token on the command line. */
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

export function expectOneLine({ stderr }: Ended): void {
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(stderr).toMatch(/^pkcs11-ha: .+; .+\n$/u);
  expect(stderr).not.toMatch(/\bat .+:\d+:\d+|node:internal/u);
}

// biome-ignore lint/suspicious/noExplicitAny: shapes are what the tests look at
export const json = ({ stdout }: Ended): any => JSON.parse(stdout);
