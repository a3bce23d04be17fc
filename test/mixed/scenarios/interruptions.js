import assert from 'node:assert/strict';
import { MEMBERS } from '../bed.js';
import { aes, encrypt, expectEqualTokens, expectWhole } from '../expectations.js';

/** Number of kills for each change and member. */
const KILLS = 2;

/** Changes; `labels` has the labels of the key without and with the change. */
const changes = [
  {
    name: 'generateKey',
    run: (application, label) => application.ask('generateKey', 'AES_KEY_GEN', { ...aes, label, extractable: false }),
    labels: (label) => [[], [label]],
  },
  {
    name: 'setAttributes',
    isOfKey: true,
    run: (application, label, { handle }) => application.ask('setAttributes', handle, { label: `${label} renamed` }),
    labels: (label) => [[label], [`${label} renamed`]],
  },
  {
    name: 'destroyObject',
    isOfKey: true,
    run: (application, _label, { handle }) => application.ask('destroyObject', handle),
    labels: (label) => [[label], []],
  },
];

/** Makes the key that a change needs; its use is noted. */
async function prepare(application, { isOfKey }, label) {
  if (!isOfKey) return undefined;
  const { handle } = await application.ask('generateKey', 'AES_KEY_GEN', { ...aes, label, extractable: false });
  return { handle, use: await encrypt(application, handle) };
}

/** Counts the calls that a version makes on each member for each change. */
async function countCalls(bed, version) {
  const application = await bed.openWhole(version);
  const counts = {};
  for (const change of changes) {
    const label = `${change.name} counted in the ${version} version`;
    const key = await prepare(application, change, label);
    const before = MEMBERS.map((name) => bed.met(version, name).length);
    for (const name of MEMBERS) bed.fault(version, name, '* trace');
    await change.run(application, label, key);
    bed.heal(version);
    counts[change.name] = MEMBERS.map((name, at) => bed.met(version, name).length - before[at]);
  }
  await application.end();
  return counts;
}

/** Expects that all members have a change, or none; returns true if they have it. */
async function expectAllOrNone(bed, survivor, labels, key, where) {
  const on = (await expectEqualTokens(bed)).map(({ label }) => label);
  const all = labels.flat();
  const has = labels.map((each) =>
    all.every((label) => on.filter((other) => other === label).length === (each.includes(label) ? 1 : 0)),
  );
  assert.ok(has.includes(true), `${where}: the tokens have ${on.filter((label) => all.includes(label))}`);
  const [label] = labels[has.indexOf(true)];
  const found = label === undefined ? [] : await survivor.ask('find', { label });
  assert.equal(found.length, label === undefined ? 0 : 1, `${where}: ${survivor.version} finds the key`);
  if (key !== undefined && found.length > 0) {
    assert.equal(found[0].handle, key.handle, `${where}: the key has another handle`);
    assert.equal(await encrypt(survivor, key.handle), key.use, `${where}: the key is another one`);
  }
  return has.indexOf(true) === 1;
}

/** Kills a process at a call of a change, and has the other version open the group. */
async function interrupt(bed, { victim, survivor, change, name, kills, skip }) {
  const label = `${change.name} ${kills} ${name}`;
  const where = `${change.name} of the ${victim} version, killed at call ${skip} of ${name}`;
  const application = await bed.openWhole(victim);
  const key = await prepare(application, change, label);
  const before = bed.met(victim, name).length;
  bed.fault(victim, name, `* orphan times=1 skip=${skip}`);
  const isTold = await change.run(application, label, key).then(
    () => true,
    () => false,
  );
  const hasEnded = bed.met(victim, name).length > before;
  if (!hasEnded) await application.end();
  bed.heal();
  const other = await bed.openWhole(survivor);
  await bed.untilTidy([other]);
  const isDone = await expectAllOrNone(bed, other, change.labels(label), key, where);
  assert.ok(isDone || (hasEnded && !isTold), `${where}: the change is undone that the call has told`);
  await other.end();
  return hasEnded ? `${isDone}` : 'late';
}

const scenario = (victim, survivor) => ({
  name: `the ${victim} version is killed in changes, the ${survivor} one opens the group`,
  async run(bed) {
    const calls = await countCalls(bed, victim);
    const ends = { true: 0, false: 0, late: 0 };
    for (const change of changes) {
      for (const [at, name] of MEMBERS.entries()) {
        for (let kills = 0; kills < KILLS; kills += 1) {
          const skip = Math.floor(((kills + Math.random()) * calls[change.name][at]) / KILLS);
          ends[await interrupt(bed, { victim, survivor, change, name, kills, skip })] += 1;
        }
      }
    }
    await expectWhole(bed, []);
    return `${ends.true} changes finished, ${ends.false} undone, ${ends.late} kills too late`;
  },
});

/** Kills of one version in the middle of a change, which the other version then resolves. */
export const interruptions = [scenario('former', 'present'), scenario('present', 'former')];
