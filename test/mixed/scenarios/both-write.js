import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { MEMBERS, VERSIONS } from '../bed.js';
import { expectFixture, expectWhole, imageOf } from '../expectations.js';
import { EQUAL_NAMES, Load, OWN_NAMES } from '../load.js';

/** Duration of each half of the load (ms). */
const DURATION = 5000;
/** Interval between the ends of hosts (ms). */
const KILL_INTERVAL = 700;
/** Maximum share of changes that fail as a host is killed (factor). */
const FAILURES = 0.1;

const oneOf = (list) => list[Math.floor(Math.random() * list.length)];

/** Kills hosts of the applications until a time, each only while all members of its application serve. */
async function killHosts(applications, end) {
  let kills = 0;
  while (Date.now() + KILL_INTERVAL < end) {
    await sleep(KILL_INTERVAL);
    const application = oneOf(applications);
    const { members } = await application.ask('status');
    if (!members.every(({ state }) => state === 'active')) continue;
    await application.killHost(oneOf(MEMBERS));
    kills += 1;
  }
  return kills;
}

/** Has all applications change and use objects for a while, then waits until all members serve. */
async function work(applications, load, kinds, isKilling) {
  const end = Date.now() + DURATION;
  const [kills] = await Promise.all([
    isKilling ? killHosts(applications, end) : 0,
    ...applications.flatMap((application) => [load.change(application, kinds, end), load.use(application, end)]),
  ]);
  await Promise.all(applications.map((application) => application.untilState(MEMBERS, 'active')));
  return kills;
}

/**
 * Both versions write at once: first while their hosts are killed, then keys of equal names. Both together are left out:
 * in record format 1 a key of several of one name may lose its handle if a host ends in a change, in one version alone
 * too.
 */
export const bothWrite = {
  name: 'both versions write at once',
  async run(bed) {
    const applications = await Promise.all(VERSIONS.map((version) => bed.openWhole(version)));
    const image = await imageOf(applications[0]);
    expectFixture(image);
    const load = new Load(image);
    const kills = await work(applications, load, OWN_NAMES, true);
    await work(applications, load, EQUAL_NAMES, false);
    load.check(await expectWhole(bed, applications));
    const { encrypt: _encrypt, repeated: _repeated, ...made } = load.counts;
    const changes = Object.values(made).reduce((sum, count) => sum + count, 0);
    assert.ok(
      load.failures.length <= changes * FAILURES,
      `${load.failures.length} changes failed: ${load.failures[0]}`,
    );
    const counts = Object.entries(load.counts).map(([step, count]) => `${step} ${count}`);
    return `${counts.join(', ')}; ${kills} hosts killed, ${load.failures.length} changes failed`;
  },
};
