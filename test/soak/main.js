// Soak of two applications on one group:
//
//   npm run test:soak:applications [-- --minutes N] [--round SECONDS] [--mishaps LIST] [--keep]
//
// Two programs make, rename, use and destroy objects of one group of SoftHSM tokens without pauses, while programs and
// hosts are killed and stopped, members go away and come back, and the tool recovers, synchronizes, adds and removes a
// member, and is interrupted. After each round all is put right, and the tokens are compared with what the programs
// were told. `--mishaps` restricts what befalls them (mishaps.js). `--keep` keeps the tokens of a round with a fault.
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { until } from '../support/applications/waiting.js';
import { buildFaulty } from '../support/faulty/build.js';
import { memoryFolder } from '../support/memory-folder.js';
import { Bed, THIRD_MEMBER } from './bed.js';
import { Load } from './load.js';
import { MISHAPS, Mishaps } from './mishaps.js';
import { Model } from './model.js';

/** Number of calls of an application that run beside each other. */
const LANES = 3;
const NAMES = ['one', 'other'];
/** Kinds of faults, each counted. */
const FAULTS = ['lost', 'wrong', 'doubled', 'resurrected', 'stuck', 'told wrongly'];

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    round: { type: 'string', default: '20' },
    keep: { type: 'boolean', default: false },
    mishaps: { type: 'string' },
  },
});
const kinds = values.mishaps === undefined ? MISHAPS : values.mishaps.split(',').filter(Boolean);
const say = (text) => process.stdout.write(`${text}\n`);

/** Group with two applications, from its making to its end. */
class Soak {
  bed = new Bed();
  model = new Model();
  load = new Load(this.model);
  mishaps = new Mishaps(this.bed, kinds, (name) => this.#open(name));
  #end = 0;
  #running = new Set();

  async begin() {
    await this.bed.form();
    for (const name of NAMES) await this.#open(name);
  }

  /** Opens an application and has it work. */
  async #open(name) {
    const application = await this.bed.open(name);
    this.#work(application);
  }

  #work(application) {
    for (let lane = 0; lane < LANES; lane += 1) {
      const running = this.load.run(application, () => performance.now() >= this.#end);
      this.#running.add(running);
      void running.finally(() => this.#running.delete(running));
    }
  }

  /** Works for a time, then puts all right; returns the faults. */
  async round(duration) {
    this.#end = performance.now() + duration;
    for (const application of this.bed.applications.values()) this.#work(application);
    await this.mishaps.run(this.#end);
    this.bed.heal();
    await Promise.all([...this.#running]);
    const faults = this.load.faults.splice(0);
    try {
      faults.push(...(await this.#check()));
    } catch (error) {
      faults.push(`${/^not within/u.test(error.message) ? 'stuck' : 'wrong'}: ${error.message}`);
    }
    return faults;
  }

  /** Has an interrupted change of membership finished, as an operator would. */
  async #finishMembership() {
    let last;
    const isFinished = async () => {
      const { output } = await this.bed.run(['status', '--json']);
      const isMember = this.bed.members().includes(THIRD_MEMBER);
      if (isMember && !/"state":"active"/u.test(output.split(`"${THIRD_MEMBER}"`)[1] ?? '')) {
        for (const more of [[], ['--existing', 'remove']]) {
          last = await this.bed.run(['member', 'add', THIRD_MEMBER, '--yes', ...more]);
          if (last.code === 0) return true;
        }
        return false;
      }
      return true;
    };
    await until(isFinished, () => `the change of membership is finished: ${last?.output}`);
  }

  async #check() {
    const applications = [...this.bed.applications.values()];
    await this.#finishMembership();
    const names = this.bed.members();
    await Promise.all(applications.map((application) => application.untilState(names, 'active')));
    await this.bed.untilTidy(names, applications);
    const faults = [];
    const tokens = await Promise.all(names.map((name) => this.bed.read(name)));
    const [first] = tokens;
    for (const [at, objects] of tokens.entries()) {
      const labels = objects.map(({ label }) => label);
      faults.push(...this.model.faultsOf(labels).map((fault) => `${fault} on ${names[at]}`));
      if (JSON.stringify(objects) !== JSON.stringify(first)) faults.push(`wrong: ${names[0]} and ${names[at]} differ`);
    }
    this.model.faultsOf(first.map(({ label }) => label));
    faults.push(...(await this.#checkOutcomes(applications[1])));
    for (const application of applications) faults.push(...(await this.#checkUses(application)));
    this.#learn();
    return faults;
  }

  /** Asks for the outcomes that were unknown; one that is told must be true. */
  async #checkOutcomes(application) {
    const faults = [];
    const ask = async (operation, isDone, what) => {
      const outcome = await application.ask('outcomeOf', operation);
      this.load.counts[`outcome ${outcome}`] = (this.load.counts[`outcome ${outcome}`] ?? 0) + 1;
      if (outcome !== 'unknown' && (outcome === 'done') !== isDone)
        faults.push(`told wrongly: ${what} is ${outcome}, but it is ${isDone ? '' : 'not '}done`);
    };
    for (const [label, { operation, wasThere }] of this.model.failed)
      if (operation !== undefined) await ask(operation, wasThere, `the creation of ${label}`);
    for (const entry of this.model.entries.values())
      for (const { operation, isDestroy } of entry.unknown)
        if (isDestroy) await ask(operation, !entry.wasThere, `the destroy of ${entry.labels}`);
    return faults;
  }

  /** Has an application find and use all objects. */
  async #checkUses(application) {
    const faults = [];
    const found = new Map((await application.ask('find')).map((object) => [object.handle, object]));
    for (const entry of this.model.entries.values()) {
      const { handle, labels, wasThere } = entry;
      if (found.has(handle) !== wasThere)
        faults.push(
          `told wrongly: ${application.version} ${wasThere ? 'does not find' : 'finds'} ${labels} (${handle})`,
        );
      else if (wasThere && ['secret', 'ensured', 'private'].includes(entry.kind)) {
        entry.state = 'there';
        try {
          await this.load.use(application, entry);
        } catch (error) {
          faults.push(`wrong: ${error.message}`);
        }
      }
      if (wasThere) entry.foundLabel = found.get(handle)?.label;
    }
    return faults;
  }

  /** Takes what the tokens have for the truth, and forgets what is gone. */
  #learn() {
    for (const [handle, entry] of this.model.entries) {
      if (!entry.wasThere && entry.state !== 'there') this.model.entries.delete(handle);
      entry.state = 'there';
      entry.unknown = [];
      if (entry.labels.length > 1 && entry.foundLabel !== undefined) entry.labels = [entry.foundLabel];
    }
    for (const [label, { wasThere }] of this.model.failed) if (!wasThere) this.model.failed.delete(label);
  }
}

/** Runs rounds until a time, or until a fault; returns the faults. */
async function soak(end, totals) {
  const one = new Soak();
  let faults = [];
  try {
    await one.begin();
    while (Date.now() < end && faults.length === 0) {
      faults = await one.round(Number(values.round) * 1000);
      totals.rounds += 1;
      say(`round ${totals.rounds}: ${one.model.entries.size} objects, ${faults.length} faults`);
    }
  } catch (error) {
    faults.push(`wrong: ${error.stack}`);
  }
  for (const source of [one.load.counts, one.mishaps.counts])
    for (const [name, count] of Object.entries(source)) totals.counts[name] = (totals.counts[name] ?? 0) + count;
  totals.failures.push(...one.load.failures);
  for (const fault of faults) say(`FAULT: ${fault}`);
  const isKept = faults.length > 0 && values.keep;
  if (isKept) say(`the tokens are kept: ${one.bed.folder.path}`);
  await one.bed.close(isKept);
  return faults;
}

process.env.TMPDIR ??= memoryFolder() ?? tmpdir();
buildFaulty();
const end = Date.now() + Number(values.minutes) * 60_000;
const totals = { rounds: 0, counts: {}, failures: [] };
const faults = [];
while (Date.now() < end) faults.push(...(await soak(end, totals)));
const messages = new Map();
for (const message of totals.failures) {
  const kind = message.replace(/\d+/gu, 'N').slice(0, 160);
  messages.set(kind, (messages.get(kind) ?? 0) + 1);
}
say('calls that failed, as they may:');
for (const [kind, count] of [...messages].sort(([, a], [, b]) => b - a).slice(0, 20)) say(`  ${count} ${kind}`);
say(JSON.stringify(totals.counts));
const counted = FAULTS.map((kind) => `${kind} ${faults.filter((fault) => fault.startsWith(`${kind}:`)).length}`);
say(`${totals.rounds} rounds: ${counted.join(', ')}`);
process.exitCode = faults.length === 0 ? 0 : 1;
