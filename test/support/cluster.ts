import { existsSync, readdirSync, readFileSync, renameSync, rmSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from '@jest/globals';
import type { GroupConfigInput, GroupStatus, MemberEvent, StateName } from '../../src/index.js';
import { createGroup, VirtualToken } from '../../src/index.js';
import { faultyModule } from './faulty/build.js';
import type { ObjectSpec } from './keys.js';
import { copyHsm, type Folder, type Hsm, makeFolder, makeHsm, type ReadObject, readToken } from './softhsm.js';

/** One SoftHSM token behind the faulty module. */
export interface TestMember {
  readonly name: string;
  readonly hsm: Hsm;
  readonly control: string;
  readonly log: string;
}

/** Policies that notice faults quickly, for tests that wait for that. */
export const quickPolicy = { hangAfter: 400, writeHangAfter: 1500, deadline: 20_000 } as const;

let pinCount = 0;

/** So long at most a change of a token is waited for before it is read again (ms): the last one may just have been. */
const LOOK = 200;

/** Resolves when something of a token's files has changed, or after a moment. */
export async function untilTouched({ directory }: Hsm): Promise<void> {
  const [token] = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  await new Promise<void>((resolve) => {
    const watcher = watch(join(directory, token?.name ?? ''), () => done());
    const timer = setTimeout(() => done(), LOOK);
    const done = (): void => {
      watcher.close();
      clearTimeout(timer);
      resolve();
    };
  });
}

/** Groups of empty tokens that a test file has formed: each test gets a copy. Their key pairs take longer than most tests. */
const formed = new Map<string, Promise<Cluster>>();
afterAll(async () => {
  for (const cluster of formed.values()) await (await cluster).close();
});

/** Two (or more) SoftHSM instances, each behind a faulty module of its own, and tokens opened on them. */
export class Cluster {
  readonly #tokens: VirtualToken[] = [];

  private constructor(
    readonly folder: Folder,
    readonly members: readonly TestMember[],
    readonly pinVariable: string,
  ) {}

  static async make(name: string, objects: readonly (readonly ObjectSpec[])[]): Promise<Cluster> {
    const folder = makeFolder(name);
    const hsms = objects.map((own, index) => makeHsm(folder.path, `hsm${index + 1}`, { objects: own }));
    return Cluster.of(folder, await Promise.all(hsms));
  }

  /** The same tokens once more, as they are now. */
  copy(name: string): Cluster {
    const folder = makeFolder(name);
    return Cluster.of(
      folder,
      this.members.map(({ hsm }) => copyHsm(hsm, folder.path)),
    );
  }

  private static of(folder: Folder, hsms: readonly Hsm[]): Cluster {
    const members = hsms.map((hsm, index): TestMember => {
      const label = `hsm${index + 1}`;
      return {
        name: label,
        hsm,
        control: join(folder.path, `${label}.control`),
        log: join(folder.path, `${label}.log`),
      };
    });
    pinCount += 1;
    const pinVariable = `PKCS11_HA_TEST_PIN_${process.pid}_${pinCount}`;
    process.env[pinVariable] = members[0]?.hsm.pin ?? '';
    return new Cluster(folder, members, pinVariable);
  }

  /** A cluster whose members, the first `count` of them, form a group already: keys can be made on it. */
  static async form(
    name: string,
    objects: readonly (readonly ObjectSpec[])[] = [[], []],
    count: number = objects.length,
  ): Promise<Cluster> {
    if (objects.some((own) => own.length > 0)) return await Cluster.formAnew(name, objects, count);
    const shape = `${count} of ${objects.length}`;
    const pattern = formed.get(shape) ?? Cluster.formAnew('formed', objects, count);
    formed.set(shape, pattern);
    return (await pattern).copy(name);
  }

  private static async formAnew(
    name: string,
    objects: readonly (readonly ObjectSpec[])[],
    count: number,
  ): Promise<Cluster> {
    const cluster = await Cluster.make(name, objects);
    // Key pairs take as long as they take.
    const configuration = cluster.configuration({});
    await createGroup({ ...configuration, members: configuration.members.slice(0, count) });
    return cluster;
  }

  /** What is on a member's token, read apart from the group; without what is the group's own. */
  async read(name: string): Promise<readonly ReadObject[]> {
    const found = await readToken(this.member(name).hsm);
    const own = found.filter(({ label }) => !label.startsWith('pkcs11-ha:'));
    // Tokens list them in the order of their files' names, which is no order.
    return own.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  }

  /** The labels of the group's own objects on a member, sorted. */
  async readOwn(name: string): Promise<readonly string[]> {
    const found = await readToken(this.member(name).hsm);
    return found
      .map(({ label }) => label)
      .filter((label) => label.startsWith('pkcs11-ha:'))
      .sort();
  }

  /** Waits until an application has taken off the members what calls and catching up have left: intents, journals. */
  async untilTidy(names: readonly string[] = this.members.map(({ name }) => name)): Promise<void> {
    const until = Date.now() + 30_000;
    for (const name of names) {
      for (;;) {
        const left = (await this.readOwn(name)).filter((label) => /:(?:intent|journal|done) /u.test(label));
        if (left.length === 0) break;
        // A loop that goes on beyond its test would keep jest from ending.
        if (Date.now() > until) throw new Error(`${name} is not tidied up: ${left.join(', ')}`);
        await untilTouched(this.member(name).hsm);
      }
    }
  }

  member(name: string): TestMember {
    const found = this.members.find((member) => member.name === name);
    if (found === undefined) throw new Error(`no member ${name}`);
    return found;
  }

  configuration(
    policy: GroupConfigInput['policy'] = quickPolicy,
  ): GroupConfigInput & { members: GroupConfigInput['members'][number][] } {
    return {
      label: 'test group',
      members: this.members.map(({ name, hsm, control, log }) => ({
        name,
        module: faultyModule,
        token: { serial: hsm.serial },
        env: { ...hsm.env, FAULTY_MODULE: hsm.module, FAULTY_CONTROL: control, FAULTY_LOG: log },
      })),
      pin: { env: this.pinVariable },
      policy: policy ?? {},
    };
  }

  async open(configuration: GroupConfigInput = this.configuration()): Promise<VirtualToken> {
    const token = await VirtualToken.open(configuration);
    this.#tokens.push(token);
    return token;
  }

  /** Sets a member's faults, all at once; see faulty/faulty.c. */
  fault(name: string, ...rules: readonly string[]): void {
    const { control } = this.member(name);
    writeFileSync(`${control}.new`, rules.map((rule) => `${rule}\n`).join(''));
    renameSync(`${control}.new`, control);
  }

  heal(): void {
    for (const { control } of this.members) rmSync(control, { force: true });
  }

  /** The faults a member has met: lines `PID FUNCTION ACTION`. */
  met(name: string): string[] {
    const { log } = this.member(name);
    return existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter(Boolean) : [];
  }

  /** Waits until a member has met a fault that the pattern matches. */
  async untilMet(name: string, pattern: RegExp): Promise<void> {
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (!this.met(name).some((line) => pattern.test(line))) return;
        watcher.close();
        resolve();
      };
      const watcher = watch(this.folder.path, look);
      look();
    });
  }

  async close(): Promise<void> {
    this.heal();
    await Promise.all(this.#tokens.map((token) => token.close()));
    this.folder.remove();
    delete process.env[this.pinVariable];
  }
}

export function stateOf(status: GroupStatus, name: string): StateName | undefined {
  return status.members.find((member) => member.name === name)?.state;
}

/** Waits until a member is in one of the states, or has been for a moment. */
export async function untilState(token: VirtualToken, name: string, ...states: readonly StateName[]): Promise<void> {
  await new Promise<void>((resolve) => {
    const look = (event?: MemberEvent): void => {
      const passed = event?.member === name && states.includes(event.to);
      if (!passed && !states.includes(stateOf(token.status(), name) as StateName)) return;
      token.off('member', look);
      resolve();
    };
    token.on('member', look);
    look();
  });
}

export function pidOf(token: VirtualToken, name: string): number {
  const pid = token.status().members.find((member) => member.name === name)?.pid;
  if (pid === undefined) throw new Error(`${name} has no host`);
  return pid;
}
