import { createHmac, randomBytes } from 'node:crypto';
import { type GroupConfigInput, type TokenObject, undrainMember, type VirtualToken } from '../../src/index.js';
import { type Cluster, quickPolicy, stateOf } from './cluster.js';
import { type ModelKey, PlainModel, type View } from './plain-model.js';
import type { ReadObject } from './softhsm.js';
import { until } from './waiting.js';

/** Step of a sequence; numbers choose among the applications, members, keys and names. */
export type Step =
  | { readonly do: 'create' | 'generate' | 'restart'; readonly app: number; readonly name: number }
  | {
      readonly do: 'copy' | 'setLabel' | 'setId' | 'destroy' | 'sign';
      readonly app: number;
      readonly on: number;
      readonly name: number;
    }
  | { readonly do: 'die' | 'hang' | 'drop' | 'return'; readonly member: number }
  | { readonly do: 'drain' | 'undrain' | 'remove' | 'add'; readonly app: number; readonly member: number };

type Call = Exclude<
  Step,
  { readonly do: 'die' | 'hang' | 'drop' | 'return' } | { readonly do: 'drain' | 'undrain' | 'remove' | 'add' }
>;

const data = Buffer.from('sixteen bytes...');
/** Factor for all limits: on a busy machine a healthy token may answer later than a hung one is noticed. */
const patience = Number(process.env.MODEL_PATIENCE ?? 1);
/** Limit of waits for members and tokens (ms). */
const WITHIN = 12_000 * patience;
const policy = {
  ...quickPolicy,
  freshness: 200,
  hangAfter: quickPolicy.hangAfter * patience,
  writeHangAfter: quickPolicy.writeHangAfter * patience,
} as const;

const labels = ['alpha', 'beta', 'gamma', 'delta'] as const;

/** Runs one sequence on real tokens and compares the results with the plain model; throws if they differ. */
export class ModelRun {
  readonly #cluster: Cluster;
  readonly #apps: (VirtualToken | undefined)[] = [];
  readonly #model: PlainModel;
  readonly #keys: ModelKey[] = [];
  #calls = 0;
  readonly #twins: boolean;
  readonly #trace: string[] = [];

  constructor(cluster: Cluster, names: readonly string[], members: readonly string[], twins: boolean) {
    this.#twins = twins;
    this.#cluster = cluster;
    this.#model = new PlainModel(names, members);
  }

  /** Runs the steps, brings all members back, and compares the tokens with the model. */
  async run(steps: readonly Step[]): Promise<void> {
    try {
      await this.#open(0);
      for (const step of steps) {
        this.#trace.push(JSON.stringify(step));
        await this.#step(step);
      }
      await this.#heal();
    } catch (error) {
      const states = this.#apps.map((app) =>
        app?.status().members.map(({ name, state, reason }) => ({ name, state, reason })),
      );
      throw new Error(
        `${error instanceof Error ? (error.stack ?? error.message) : String(error)}\nafter ${this.#trace.join('\n  ')}\nwith ${JSON.stringify(states)}`,
      );
    } finally {
      this.#cluster.heal();
      await Promise.all(this.#apps.map((app) => app?.close()));
    }
  }

  #configuration(index: number): GroupConfigInput {
    const folder = process.env.MODEL_LOG;
    const log = folder === undefined ? {} : { log: { file: `${folder}/app${index}.log` } };
    return { ...this.#cluster.configuration(policy), ...log };
  }

  async #open(index: number): Promise<VirtualToken> {
    const token = await this.#cluster.open(this.#configuration(index));
    this.#apps[index] = token;
    return token;
  }

  async #app(index: number): Promise<VirtualToken | undefined> {
    const app = this.#apps[index];
    if (app !== undefined || this.#model.alive.size === 0) return app;
    const opened = await this.#open(index);
    await this.#untilServing(opened);
    return opened;
  }

  async #step(step: Step): Promise<void> {
    switch (step.do) {
      case 'die':
      case 'hang':
      case 'drop':
      case 'return':
        return await this.#befall(step.do, this.#model.nameAt(step.member));
      case 'drain':
      case 'undrain':
      case 'remove':
      case 'add':
        return await this.#administer(step.do, step.app, this.#model.nameAt(step.member));
      case 'restart': {
        const app = this.#apps[step.app];
        if (app === undefined || this.#model.alive.size === 0) return;
        await app.close();
        this.#apps[step.app] = undefined;
        await this.#app(step.app);
        return;
      }
      default: {
        const app = await this.#app(step.app);
        if (app !== undefined) await this.#call(app, step);
      }
    }
  }

  /** Lets something happen to a member. */
  async #befall(what: 'die' | 'hang' | 'drop' | 'return', name: string): Promise<void> {
    if (what === 'drop') {
      if (this.#model.alive.has(name))
        this.#cluster.fault(name, 'C_GetSessionInfo drop times=1', 'C_SignInit drop times=1');
      return;
    }
    if (what === 'return') {
      this.#cluster.fault(name);
      if (this.#model.reachable.has(name)) return;
      this.#model.reachable.add(name);
      return await this.#meetAgain();
    }
    // Waits until all members have every change, before a member that has them leaves.
    for (const app of this.#apps) if (app !== undefined) await this.#untilServing(app);
    if (!this.#model.reachable.delete(name)) return;
    if (what === 'hang') {
      this.#cluster.fault(name, '* hang');
      return;
    }
    this.#cluster.fault(name, 'C_Initialize return=0x30');
    for (const app of this.#apps) {
      if (app === undefined) continue;
      const pid = app.status().members.find((member) => member.name === name)?.pid;
      if (pid === undefined) continue;
      process.kill(pid, 'SIGKILL');
      await until(
        () => !app.status().members.some((member) => member.pid === pid),
        () => `the end of host ${pid} is noticed`,
      );
    }
  }

  /** Lets the members that serve exchange their changes. */
  async #meetAgain(): Promise<void> {
    this.#model.meet();
    for (const app of this.#apps) if (app !== undefined) await this.#untilServing(app);
  }

  async #administer(what: 'drain' | 'undrain' | 'remove' | 'add', index: number, name: string): Promise<void> {
    const isLastHope = what === 'undrain' && this.#model.alive.size === 0;
    if (isLastHope) return await this.#undrainAlone(index, name);
    const app = await this.#app(index);
    // Leaves the step out unless all other members are well, as an operator would.
    if (app === undefined || this.#model.isStale || this.#model.alive.size === 0 || !this.#model.reachable.has(name))
      return;
    if ((what === 'drain' || what === 'remove') && (!this.#model.alive.has(name) || this.#model.alive.size < 2)) return;
    if (what === 'undrain' && (!this.#model.drained.has(name) || !this.#model.members.has(name))) return;
    if (what === 'add' && (this.#model.members.has(name) || this.#model.alive.size === 0)) return;
    await this.#untilServing(app);
    // Repeats a failed change of membership: half of it does no harm, and a member may just be getting a new host.
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#administerOnce(app, what, name);
      } catch (error) {
        if (tries === 4) throw error;
      }
    }
  }

  /** Undrains the only member left, also by a process that cannot open the group. */
  async #undrainAlone(index: number, name: string): Promise<void> {
    const { drained, members, reachable } = this.#model;
    if (!drained.has(name) || !members.has(name) || !reachable.has(name)) return;
    const app = this.#apps[index];
    if (app === undefined) await undrainMember(this.#configuration(index), name, { deadline: WITHIN });
    else await app.undrain(name, { deadline: WITHIN });
    drained.delete(name);
    await this.#meetAgain();
  }

  async #administerOnce(app: VirtualToken, what: 'drain' | 'undrain' | 'remove' | 'add', name: string): Promise<void> {
    if (what === 'drain') {
      await app.drain(name, { deadline: WITHIN });
      this.#model.drained.add(name);
    } else if (what === 'undrain') {
      await app.undrain(name, { deadline: WITHIN });
      this.#model.drained.delete(name);
    } else if (what === 'remove') {
      await app.removeMember(name, { wipe: true, deadline: WITHIN });
      this.#model.remove(name);
    } else {
      const member = this.#cluster.configuration().members.find((each) => each.name === name);
      if (member === undefined) return;
      await app.addMember(member, { deadline: WITHIN });
      this.#model.add(name);
    }
    await this.#meetAgain();
  }

  /** Waits until all members that the model has as alive serve. */
  async #untilServing(app: VirtualToken): Promise<void> {
    // A member may be stale only while the model says so.
    const states = this.#model.isStale ? ['active', 'stale'] : ['active'];
    const isServing = (): boolean =>
      [...this.#model.alive].every((name) => states.includes(stateOf(app.status(), name) ?? ''));
    await until(isServing, () => `members serve: ${JSON.stringify(app.status().members)}`, WITHIN);
  }

  async #call(app: VirtualToken, step: Call): Promise<void> {
    const label = labels[step.name % labels.length] as string;
    const views = this.#model.views;
    const chosen = 'on' in step ? views[step.on % Math.max(1, views.length)] : undefined;
    if ('on' in step && chosen === undefined) return;
    let made: ModelKey | undefined;
    const outcome = await this.#perform(app, step, label, chosen).then(
      (value) => {
        made = value;
        return undefined;
      },
      (error: unknown) => error,
    );
    if (outcome !== undefined) {
      // A call may fail only if no serving member has all changes.
      if (this.#model.alive.size > 0 && !this.#model.isStale) throw outcome;
      if (outcome instanceof Mistake) throw outcome;
      return;
    }
    if (this.#model.alive.size === 0 && step.do !== 'sign') throw new Mistake(`${step.do} succeeded with nobody there`);
    const id = this.#idOf(step);
    if (made !== undefined) this.#model.note({ key: made, what: 'make', label, id });
    if (chosen === undefined) return;
    if (step.do === 'setLabel') this.#model.note({ key: chosen.key, what: 'set', label });
    if (step.do === 'setId') this.#model.note({ key: chosen.key, what: 'set', id });
    if (step.do === 'destroy') this.#model.note({ key: chosen.key, what: 'destroy' });
  }

  async #perform(
    app: VirtualToken,
    step: Call,
    label: string,
    chosen: View | undefined,
  ): Promise<ModelKey | undefined> {
    this.#calls += 1;
    const id = Buffer.from(this.#idOf(step), 'hex');
    const handle = chosen?.key.handle ?? 0;
    // If no serving member has all changes, the call only has to end.
    const options = { deadline: this.#model.alive.size === 0 || this.#model.isStale ? 600 : 20_000 };
    switch (step.do) {
      case 'create': {
        const value = randomBytes(32);
        const key = await app.createObject(
          {
            class: 'SECRET_KEY',
            keyType: 'GENERIC_SECRET',
            token: true,
            label,
            id,
            value,
            sign: true,
            verify: true,
            extractable: step.name % 2 === 0,
          },
          options,
        );
        return this.#meet(key, 'SHA256_HMAC', createHmac('sha256', value).update(data).digest());
      }
      case 'generate': {
        const key = await app.generateKey(
          'AES_KEY_GEN',
          {
            token: true,
            label,
            id,
            valueLen: 32,
            encrypt: true,
            decrypt: true,
            sensitive: true,
            extractable: step.name % 2 === 0,
          },
          options,
        );
        return this.#meet(key, 'AES_ECB', await app.encrypt('AES_ECB', key, data));
      }
      case 'copy': {
        const copied = await app.copyObject(handle, { label, id }, options);
        return this.#meet(copied, chosen?.key.mechanism ?? '', chosen?.key.result ?? Buffer.alloc(0));
      }
      case 'setLabel':
        await app.setAttributes(handle, { label }, options);
        return undefined;
      case 'setId':
        await app.setAttributes(handle, { id }, options);
        return undefined;
      case 'destroy':
        await app.destroyObject(handle, options);
        return undefined;
      case 'sign':
        if (chosen !== undefined) await this.#check(app, chosen.key, options);
        return undefined;
      case 'restart':
        return undefined;
    }
  }

  /** Returns the CKA_ID of a new key: unique, or with `twins` shared like its label. */
  #idOf({ name }: Call): string {
    return (this.#twins ? name : this.#calls).toString(16).padStart(4, '0');
  }

  /** Adds a new key to the list; throws if its handle belongs to a living key. */
  #meet({ handle }: TokenObject, mechanism: string, result: Buffer): ModelKey {
    const alive = this.#model.views.find(({ key }) => key.handle === handle);
    if (alive !== undefined) throw new Mistake(`handle ${handle} is given twice`);
    const key: ModelKey = { number: this.#keys.length, handle, mechanism, result };
    this.#keys.push(key);
    return key;
  }

  /** Throws if a handle gives the result of another key. */
  async #check(app: VirtualToken, { handle, mechanism, result }: ModelKey, options = {}): Promise<void> {
    const made = await (mechanism === 'AES_ECB'
      ? app.encrypt(mechanism, handle, data, options)
      : app.sign(mechanism, handle, data, options));
    if (!made.equals(result)) throw new Mistake(`handle ${handle} is another key`);
  }

  /** Brings all members back. All tokens must then hold the model's keys, and every process use the same handles. */
  async #heal(): Promise<void> {
    for (const name of this.#model.names) await this.#befall('return', name);
    for (const name of [...this.#model.drained]) await this.#administer('undrain', 0, name);
    const [app] = this.#apps;
    if (app === undefined) throw new Error('no application');
    const expected = this.#model.end;
    const end = Date.now() + WITHIN;
    for (;;) {
      for (const each of this.#apps) if (each !== undefined) await this.#untilServing(each);
      const difference = await this.#difference(expected);
      if (difference === undefined) break;
      if (Date.now() > end) throw new Mistake(difference);
    }
    const fresh = await this.#cluster.open();
    for (const token of [app, fresh]) {
      const handles = (await token.find()).map(({ handle }) => handle).sort();
      const wanted = expected.map(({ key }) => key.handle).sort();
      if (JSON.stringify(handles) !== JSON.stringify(wanted))
        throw new Mistake(
          `${token === fresh ? 'a fresh application' : 'the application'} finds ${handles}, not ${wanted}`,
        );
      for (const { key } of expected) await this.#check(token, key);
    }
    await fresh.close();
  }

  /** Describes how the tokens, read apart from the group, differ from the expected keys. */
  async #difference(expected: readonly View[]): Promise<string | undefined> {
    const wanted = expected.map(({ label, id }) => `${label} ${id}`).sort();
    let first: readonly ReadObject[] | undefined;
    for (const name of this.#model.members) {
      const found = await this.#cluster.read(name);
      const names = found.map(({ label, id }) => `${label} ${id}`).sort();
      if (JSON.stringify(names) !== JSON.stringify(wanted)) return `${name} holds [${names}], not [${wanted}]`;
      first ??= found;
      if (JSON.stringify(first) !== JSON.stringify(found)) return `${name} holds other keys than the first`;
      const left = (await this.#cluster.readOwn(name)).filter((own) => /intent|journal|done|probe/u.test(own));
      if (left.length > 0) return `${name} still has ${left}`;
    }
    return undefined;
  }
}

/** Error of the group that no state of the members excuses. */
class Mistake extends Error {}
