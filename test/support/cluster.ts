import { existsSync, readdirSync, readFileSync, renameSync, rmSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GroupConfigInput, GroupStatus, MemberEvent, StateName } from '../../src/index.js';
import { createGroup, VirtualToken } from '../../src/index.js';
import { faultyModule } from './faulty/build.js';
import { unpackFixture } from './fixture.js';
import { formedGroup } from './formed-groups.js';
import type { ObjectSpec } from './keys.js';
import {
  copyHsm,
  type Folder,
  type Hsm,
  makeFolder,
  makeHsm,
  provision,
  type ReadObject,
  readToken,
} from './softhsm.js';
import { within } from './waiting.js';

/** SoftHSM token behind the faulty module. */
export interface TestMember {
  readonly name: string;
  readonly hsm: Hsm;
  readonly control: string;
  readonly log: string;
}

/** Policy that notices faults quickly, for tests that wait for that. */
export const quickPolicy = { hangAfter: 400, writeHangAfter: 1500, deadline: 20_000 } as const;

let pinCount = 0;

/** Longest wait for a change of a token's files before the token is read again (ms): the change may be over already. */
const LOOK = 200;

/** Resolves when one of a token's files has changed, or after a moment. */
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

/** Two (or more) SoftHSM instances, each behind a faulty module of its own, and tokens opened on them. */
export class Cluster {
  readonly #tokens: VirtualToken[] = [];

  private constructor(
    readonly folder: Folder,
    readonly members: readonly TestMember[],
    readonly pinVariable: string,
  ) {}

  /** Makes tokens with the given objects; they form no group. */
  static async make(
    name: string,
    objects: readonly (readonly ObjectSpec[])[],
    folder: Folder = makeFolder(name),
  ): Promise<Cluster> {
    const hsms = objects.map((own, index) => makeHsm(folder.path, `hsm${index + 1}`, { objects: own }));
    return Cluster.of(folder, await Promise.all(hsms));
  }

  /** Copies the tokens as they are now. */
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

  /** Makes a cluster whose first `count` members form a group, so that keys can be made on it. */
  static async form(
    name: string,
    objects: readonly (readonly ObjectSpec[])[] = [[], []],
    count: number = objects.length,
  ): Promise<Cluster> {
    const hsms = await formedGroup(`${count} of ${objects.length}`, async (path) => {
      const { members } = await Cluster.formEmpty(objects.length, count, { path, remove: () => undefined });
      return members.map(({ hsm }) => hsm);
    });
    const folder = makeFolder(name);
    const copies = hsms.map((hsm) => copyHsm(hsm, folder.path));
    for (const [index, own] of objects.entries())
      if (own.length > 0) await provision(copies[index] as Hsm, { objects: own });
    return Cluster.of(folder, copies);
  }

  /** Takes the tokens of a group that an earlier version made, from an archive in test/fixtures. */
  static ofFixture(name: string): Cluster {
    const folder = makeFolder(name);
    return Cluster.of(folder, unpackFixture(name, folder.path));
  }

  private static async formEmpty(tokens: number, count: number, folder: Folder): Promise<Cluster> {
    const cluster = await Cluster.make(
      'formed',
      Array.from({ length: tokens }, () => []),
      folder,
    );
    // Default limits: making key pairs takes seconds.
    const configuration = cluster.configuration({});
    await createGroup({ ...configuration, members: configuration.members.slice(0, count) });
    return cluster;
  }

  /** Reads a member's token apart from the group; leaves out the group's own objects. */
  async read(name: string): Promise<readonly ReadObject[]> {
    const found = await readToken(this.member(name).hsm);
    const own = found.filter(({ label }) => !label.startsWith('pkcs11-ha:'));
    // Sorts, because tokens list objects in the order of their files' random names.
    return own.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  }

  /** Reads the labels of the group's own objects on a member, sorted. */
  async readOwn(name: string): Promise<readonly string[]> {
    const found = await readToken(this.member(name).hsm);
    return found
      .map(({ label }) => label)
      .filter((label) => label.startsWith('pkcs11-ha:'))
      .sort();
  }

  /** Waits until no member has an intent, a journal entry or a done record any more. */
  async untilTidy(names: readonly string[] = this.members.map(({ name }) => name)): Promise<void> {
    const until = Date.now() + 30_000;
    for (const name of names) {
      for (;;) {
        const left = (await this.readOwn(name)).filter((label) => /:(?:intent|journal|done) /u.test(label));
        if (left.length === 0) break;
        if (Date.now() > until) throw new Error(`${name} is not tidied up: ${left.join(', ')}`);
        await untilTouched(this.member(name).hsm);
      }
    }
  }

  /** Returns a member; throws if there is none of that name. */
  member(name: string): TestMember {
    const found = this.members.find((member) => member.name === name);
    if (found === undefined) throw new Error(`no member ${name}`);
    return found;
  }

  /** Returns the configuration of a group of all members. */
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

  /** Opens a virtual token, which `close` closes. */
  async open(configuration: GroupConfigInput = this.configuration()): Promise<VirtualToken> {
    const token = await VirtualToken.open(configuration);
    this.#tokens.push(token);
    return token;
  }

  /** Sets all of a member's faults at once; faulty/faulty.c has the syntax. Without rules the member is well. */
  fault(name: string, ...rules: readonly string[]): void {
    const { control } = this.member(name);
    writeFileSync(`${control}.new`, rules.map((rule) => `${rule}\n`).join(''));
    renameSync(`${control}.new`, control);
  }

  /** Takes all faults off all members. */
  heal(): void {
    for (const { control } of this.members) rmSync(control, { force: true });
  }

  /** Returns the faults that a member has met, as lines `PID FUNCTION ACTION`. */
  met(name: string): string[] {
    const { log } = this.member(name);
    return existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter(Boolean) : [];
  }

  /** Waits until a member has met a fault that the pattern matches. */
  async untilMet(name: string, pattern: RegExp): Promise<void> {
    const met = new Promise<void>((resolve) => {
      const look = (): void => {
        if (!this.met(name).some((line) => pattern.test(line))) return;
        watcher.close();
        resolve();
      };
      const watcher = watch(this.folder.path, look);
      look();
    });
    await within(met, () => `${name} meets no fault like ${pattern}; met: ${this.met(name).join(', ')}`);
  }

  /** Closes the tokens that `open` opened, and deletes the folder. */
  async close(): Promise<void> {
    this.heal();
    await Promise.all(this.#tokens.map((token) => token.close()));
    this.folder.remove();
    delete process.env[this.pinVariable];
  }
}

/** Returns a member's state, or undefined if the group has no such member. */
export function stateOf(status: GroupStatus, name: string): StateName | undefined {
  return status.members.find((member) => member.name === name)?.state;
}

/** Waits until a member is in one of the states, or has been for a moment. */
export async function untilState(token: VirtualToken, name: string, ...states: readonly StateName[]): Promise<void> {
  const reached = new Promise<void>((resolve) => {
    const look = (event?: MemberEvent): void => {
      const passed = event?.member === name && states.includes(event.to);
      if (!passed && !states.includes(stateOf(token.status(), name) as StateName)) return;
      token.off('member', look);
      resolve();
    };
    token.on('member', look);
    look();
  });
  const members = (): string =>
    token
      .status()
      .members.map(({ name: each, state, reason }) => `${each} ${state} (${reason})`)
      .join(', ');
  await within(reached, () => `${name} is ${states.join(' or ')}; members: ${members()}`);
}

/** Returns the process id of a member's host; throws if the member has none. */
export function pidOf(token: VirtualToken, name: string): number {
  const pid = token.status().members.find((member) => member.name === name)?.pid;
  if (pid === undefined) throw new Error(`${name} has no host`);
  return pid;
}
