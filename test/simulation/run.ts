import { confirmGroup, createGroupOn } from '../../src/core/administration/create-group.js';
import type { Task } from '../../src/core/base/task.js';
import { runCall } from '../../src/core/call/call.js';
import { findKey } from '../../src/core/call/lookup.js';
import type { Group } from '../../src/core/group/group.js';
import { isInStep } from '../../src/core/group/in-step.js';
import { awaitService } from '../../src/core/health/opening.js';
import { requestGenerate } from '../../src/core/jobs/creation-request.js';
import { encrypt } from '../../src/core/jobs/operation.js';
import type { VirtualObject } from '../../src/core/objects/object.js';
import { changeAttributes } from '../../src/core/replication/attribute-change.js';
import { createObjects } from '../../src/core/replication/creation.js';
import { destroyObject } from '../../src/core/replication/destruction.js';
import { CKR } from '../../src/spec/codes.js';
import { ck } from '../../src/spec/constants.js';
import { encodeMechanism } from '../../src/spec/mechanism.js';
import { encodeTemplate } from '../../src/spec/template.js';
import { Application } from './application.js';
import { Chance } from './chance.js';
import { Fleet, SimulatedMachine } from './fleet.js';
import { History, type KnownKey, type Told, toldBy } from './history.js';
import type { Profile } from './profiles.js';
import type { SimulatedToken } from './simulated-token.js';

/** Time that a call may take (ms). */
const CALL_WITHIN = 10_000;
/** Longest time until all is in order again after the last fault (ms). */
const HEALED_WITHIN = 180_000;
/** Time that background work gets after that (ms). */
const SETTLED_AFTER = 45_000;
/** Longest stop of an application (ms); longer than claims last. */
const LONGEST_STOP = 12_000;
/** Number of calls of an application that run beside each other. */
const LANES = 2;

const aesGenerate = encodeMechanism('mechanism', 'AES_KEY_GEN');
const ecb = encodeMechanism('mechanism', 'AES_ECB');

const formed = new Map<number, readonly SimulatedToken[]>();

/** Returns the tokens of a new group: formed once for each number of members, and copied. */
function formedTokens(members: number): readonly SimulatedToken[] {
  const known = formed.get(members);
  if (known !== undefined) return known;
  const fleet = new Fleet(new Chance(1));
  for (let index = 1; index <= members; index += 1) fleet.addToken(`hsm${index}`);
  const machine = new SimulatedMachine(fleet);
  const first = new Application(fleet, machine, 'first');
  first.group.isBeingCreated = true;
  const formation = first.run(createGroupOn(first.group, undefined, fleet.now + 60_000));
  first.kill();
  const second = new Application(fleet, machine, 'second');
  second.group.isBeingCreated = true;
  second.run(confirmGroup(second.group, formation, fleet.now + 60_000));
  second.kill();
  fleet.pass(1000);
  const tokens = [...fleet.tokens.values()];
  formed.set(members, tokens);
  return tokens;
}

/** Result of a run. */
export interface RunResult {
  readonly findings: readonly string[];
  readonly counts: ReadonlyMap<string, number>;
  /** Lines that tell people what happened. */
  readonly log: readonly string[];
}

/** Life of a fleet, from a seed. */
export class Run {
  readonly chance: Chance;
  readonly fleet: Fleet;
  readonly machine: SimulatedMachine;
  readonly history: History;
  readonly log: string[] = [];
  readonly #profile: Profile;
  readonly #applications: Application[] = [];
  #callsLeft: number;
  #names = 0;
  #writers = 0;
  #areFaultsOn = true;
  #lanes = 0;

  constructor(seed: number, profile: Profile) {
    this.chance = new Chance(seed);
    this.fleet = new Fleet(this.chance);
    this.machine = new SimulatedMachine(this.fleet);
    this.history = new History(this.fleet);
    this.#profile = profile;
    this.#callsLeft = profile.calls;
    for (const [index, token] of formedTokens(profile.members).entries())
      this.fleet.tokens.set(`hsm${index + 1}`, token.copy());
  }

  run(): RunResult {
    const { fleet, history } = this;
    // Only the token fails: the host's own calls have no faults.
    fleet.choose = (_host, call) => (call.startsWith('X_') && call !== 'X_Find' ? undefined : this.#faultAt());
    for (let index = 0; index < this.#profile.applications; index += 1) this.#open();
    this.#plan();
    fleet.until(() => this.#callsLeft <= 0 && this.#lanes === 0, 600_000);
    this.#areFaultsOn = false;
    for (const member of fleet.tokens.keys()) fleet.setAway(member, false);
    this.#note('faults end');
    if (!fleet.until(() => this.#isHealed(), HEALED_WITHIN)) history.findings.push(`stuck: ${this.#states()}`);
    fleet.pass(SETTLED_AFTER);
    if (!this.#isHealed()) history.findings.push(`relapsed: ${this.#states()}`);
    history.check();
    return { findings: history.findings, counts: history.counts, log: this.log };
  }

  #note(what: string): void {
    this.log.push(`${this.fleet.now.toFixed(1)} ms: ${what}`);
  }

  #states(): string {
    return this.#living()
      .map(({ writer, group, coordinator }) => {
        const out = group.members.filter((member) => !isInStep(group, member));
        const why = out.map(
          ({ name, serial = '', recovery }) =>
            `${name} is out of step: ${recovery.isNeeded ? 'recovery is needed, ' : ''}${recovery.failedChanges.size} failed changes, ${coordinator.missedBy(serial).length} notes`,
        );
        return [`${writer}: ${group.describeMembers()}`, ...why].join('; ');
      })
      .join('; ');
  }

  #living(): Application[] {
    return this.#applications.filter(({ isAlive }) => isAlive);
  }

  #isHealed(): boolean {
    return this.#living().every(({ group }) =>
      group.members.every((member) => member.isActive && isInStep(group, member)),
    );
  }

  #faultAt(): ReturnType<Fleet['choose']> {
    const { errors, hangs } = this.#profile;
    if (!this.#areFaultsOn) return undefined;
    if (errors > 0 && this.chance.happens(errors)) return { code: ck('CKR_DEVICE_ERROR') };
    return hangs > 0 && this.chance.happens(hangs) ? 'hang' : undefined;
  }

  #open(): void {
    this.#writers += 1;
    const application = new Application(this.fleet, this.machine, `writer${this.#writers}`);
    this.#applications.push(application);
    this.#lanes += LANES;
    this.#serve(application);
  }

  /** Waits until an application has service, and starts its lanes. */
  #serve(application: Application): void {
    let isNoted = false;
    const finish = (isServed: boolean): void => {
      if (isNoted) return;
      isNoted = true;
      if (!isServed && application.isAlive && this.#callsLeft > 0) this.#serve(application);
      else for (let lane = 0; lane < LANES; lane += 1) this.#work(application);
    };
    const running = application.start(awaitService(application.group, this.#deadline()));
    application.onKilled.push(() => finish(false));
    const look = (): void => {
      if (running.completed) this.fleet.after(0, () => finish(running.ended?.ok === true));
    };
    running.add({ wake: look });
    look();
  }

  /** Starts the next call of a lane. A call of an application that is killed has an unknown outcome. */
  #work(application: Application): void {
    if (this.#callsLeft <= 0 || !application.isAlive) {
      this.#lanes -= 1;
      return;
    }
    this.#callsLeft -= 1;
    this.fleet.after(this.chance.below(40), () => {
      const next = (): void => this.#work(application);
      if (!application.isAlive) next();
      else this.#call(application, next);
    });
  }

  #call(application: Application, next: () => void): void {
    const { history, chance } = this;
    const key = history.choose();
    const choice = chance.next();
    if (key === undefined || choice < 0.35) this.#generate(application, next);
    else if (choice < 0.65) this.#use(application, key, next);
    else if (choice < 0.85) this.#rename(application, key, next);
    else this.#destroy(application, key, next);
  }

  /** Runs a task of an application; `note` gets its end, or undefined if the application is killed before. */
  #perform<T>(
    application: Application,
    what: string,
    task: Task<T>,
    note: (ended: { ok: boolean; error?: unknown; value?: T } | undefined) => void,
    next: () => void,
  ): void {
    const running = application.start(task);
    let isNoted = false;
    const begunAt = this.fleet.now - application.stood;
    const finish = (ended: { ok: boolean; error?: unknown; value?: T } | undefined): void => {
      if (isNoted) return;
      isNoted = true;
      this.#note(
        `${application.writer} ${what}: ${toldBy(ended)}${ended?.ok === false ? ` (${String(ended.error)})` : ''}`,
      );
      const took = this.fleet.now - application.stood - begunAt;
      if (took > CALL_WITHIN * 1.5) this.history.findings.push(`late: ${what} took ${took.toFixed(0)} ms`);
      note(ended);
      next();
    };
    application.onKilled.push(() => finish(undefined));
    const look = (): void => {
      if (running.completed) this.fleet.after(0, () => finish(running.ended));
    };
    running.add({ wake: look });
    look();
  }

  #deadline(): number {
    return this.fleet.now + CALL_WITHIN;
  }

  #generate(application: Application, next: () => void): void {
    this.#names += 1;
    const label = `key ${this.#names}`;
    const template = encodeTemplate('template', {
      ...{ token: true, label, valueLen: 32, encrypt: true, decrypt: true, sensitive: true },
      extractable: this.chance.happens(0.3),
    });
    const task = createObjects(application.group, requestGenerate(aesGenerate, template), this.#deadline());
    this.#perform(
      application,
      `generate ${label}`,
      task,
      (ended) => this.history.noteMade(label, toldBy(ended), ended?.value?.[0]?.handle),
      next,
    );
  }

  /** Has an application work on a key, which no other call takes meanwhile. */
  #onKey<T>(
    application: Application,
    key: KnownKey,
    what: string,
    work: (group: Group, object: VirtualObject, deadline: number) => Task<T>,
    note: (told: Told, value: T | undefined) => void,
    next: () => void,
  ): void {
    const { group } = application;
    const deadline = this.#deadline();
    key.isBusy = true;
    const task = function* (): Task<T> {
      const found = yield* findKey(group, key.handle, CKR.objectHandleInvalid, 'simulation', deadline);
      return yield* work(group, found, deadline);
    };
    this.#perform(
      application,
      what,
      task(),
      (ended) => {
        key.isBusy = false;
        note(toldBy(ended), ended?.value);
      },
      next,
    );
  }

  #use(application: Application, key: KnownKey, next: () => void): void {
    const data = this.chance.bytes(16);
    this.#onKey(
      application,
      key,
      `use ${key.labels}`,
      (group, object, deadline) => runCall(group, encrypt(ecb, object, data), deadline),
      (told, result) => this.history.noteUse(key, told, data, result),
      next,
    );
  }

  #rename(application: Application, key: KnownKey, next: () => void): void {
    this.#names += 1;
    const label = `renamed ${this.#names}`;
    const attributes = encodeTemplate('template', { label });
    this.#onKey(
      application,
      key,
      `rename ${key.labels} to ${label}`,
      (group, object, deadline) => changeAttributes(group, object, attributes, deadline),
      (told) => this.history.noteRenamed(key, label, told),
      next,
    );
  }

  #destroy(application: Application, key: KnownKey, next: () => void): void {
    this.#onKey(
      application,
      key,
      `destroy ${key.labels}`,
      (group, object, deadline) => destroyObject(group, object, deadline),
      (told) => this.history.noteDestroyed(key, told),
      next,
    );
  }

  /** Plans kills and outages until the faults end. */
  #plan(): void {
    const { killsEvery, hostKillsEvery, outagesEvery, stopsEvery, hostStopsEvery } = this.#profile;
    this.#repeat(killsEvery, () => this.#killApplication());
    this.#repeat(hostKillsEvery, () => this.#killHost());
    this.#repeat(outagesEvery, () => this.#takeAway());
    this.#repeat(stopsEvery, () => this.#stopApplication());
    this.#repeat(hostStopsEvery, () => this.#stopHost());
  }

  #repeat(mean: number, happen: () => void): void {
    if (mean === 0) return;
    this.fleet.after(-Math.log(1 - this.chance.next()) * mean, () => {
      if (!this.#areFaultsOn || this.#callsLeft <= 0) return;
      happen();
      this.#repeat(mean, happen);
    });
  }

  #killApplication(): void {
    const living = this.#living();
    if (living.length === 0) return;
    const victim = this.chance.pick(living);
    this.#note(`${victim.writer} is killed`);
    const hosts = victim.hosts();
    victim.kill();
    // Now and then the hosts are killed too.
    if (this.chance.happens(0.5)) for (const host of hosts) host.kill();
    this.fleet.after(this.chance.below(500), () => this.#open());
  }

  #killHost(): void {
    const hosts = this.#living().flatMap((application) => application.hosts());
    if (hosts.length === 0) return;
    const host = this.chance.pick(hosts);
    this.#note(`a host of ${host.member} is killed`);
    host.kill();
  }

  #stopApplication(): void {
    const running = this.#living().filter(({ standsSince }) => standsSince === undefined);
    if (running.length === 0) return;
    const victim = this.chance.pick(running);
    const ms = this.chance.below(LONGEST_STOP);
    this.#note(`${victim.writer} is stopped for ${ms.toFixed(0)} ms`);
    victim.stand(ms);
  }

  #stopHost(): void {
    const hosts = this.#living().flatMap((application) => application.hosts());
    if (hosts.length === 0) return;
    const host = this.chance.pick(hosts);
    const ms = this.chance.below(LONGEST_STOP / 2);
    this.#note(`a host of ${host.member} is stopped for ${ms.toFixed(0)} ms`);
    host.stand(ms);
  }

  /** Takes a member away from all applications for a while. */
  #takeAway(): void {
    const member = this.chance.pick([...this.fleet.tokens.keys()]);
    if (this.fleet.isAway(member)) return;
    this.#note(`${member} goes away`);
    this.fleet.setAway(member, true);
    for (const application of this.#living())
      for (const host of application.hosts()) if (host.member === member) host.kill();
    this.fleet.after(200 + this.chance.below(4000), () => {
      this.#note(`${member} is back`);
      this.fleet.setAway(member, false);
    });
  }
}
