import assert from 'node:assert/strict';
import { until } from '../../support/applications/waiting.js';
import { MEMBERS } from '../bed.js';
import { aes, encrypt, expectWhole, makeData, makePair } from '../expectations.js';

/** Number of keys that a member misses. */
const MISSED = 10;
/** Pause before each key that a member gets (ms), so that its recovery takes long. */
const SLOW = 200;

const AWAY = 'hsm2';

const generate = (application, label, extractable = false) =>
  application.ask('generateKey', 'AES_KEY_GEN', { ...aes, label, extractable });

/** Makes, renames and destroys objects; returns the uses of the keys that are left, by handle. */
async function change(application, version) {
  const name = (text) => `${text} of ${version}`;
  const uses = new Map();
  const keep = async ({ handle }) => uses.set(handle, await encrypt(application, handle));
  for (const extractable of [true, false]) await keep(await generate(application, name('new'), extractable));
  const [known] = await application.ask('find', { label: name('known') });
  await application.ask('destroyObject', known.handle);
  // Makes the successor of a destroyed key, which has its name.
  await keep(await generate(application, name('known')));
  const [renamed] = await application.ask('find', { label: name('former name') });
  await application.ask('setAttributes', renamed.handle, { label: name('later name') });
  await keep(renamed);
  // Makes a key and destroys it while the member is away.
  await application.ask('destroyObject', (await generate(application, name('short'))).handle);
  await makePair(application, name('pair while away'));
  await makeData(application, name('data while away'));
  const [data] = await application.ask('find', { label: name('data'), class: 'DATA' });
  await application.ask('destroyObject', data.handle);
  return uses;
}

/** Makes the objects that `change` works on. */
async function prepare(application, version) {
  for (const text of ['known', 'former name']) await generate(application, `${text} of ${version}`);
  await makeData(application, `data of ${version}`);
}

const away = (writer, other) => ({
  name: `a member is away from the ${writer} version, the ${other} one brings it back`,
  async run(bed) {
    const application = await bed.openWhole(writer);
    await prepare(application, writer);
    await bed.lose(AWAY, application);
    const uses = await change(application, writer);
    await application.end();
    bed.heal();
    const later = await bed.openWhole(other);
    const image = await expectWhole(bed, [later]);
    for (const [handle, use] of uses) assert.equal(image.get(handle)?.use, use, 'a key made while a member was away');
    for (const label of [`short of ${writer}`, `data of ${writer}`, `former name of ${writer}`])
      assert.ok(![...image.values()].some((object) => object.label === label), `${label} is there again`);
    return `${image.size} objects`;
  },
});

/** Makes keys and data objects in turns in two applications, from which a member is away. */
async function missObjects(bed, applications) {
  await bed.lose(AWAY, ...applications);
  for (let i = 0; i < MISSED; i += 1) {
    const application = applications[i % applications.length];
    await generate(application, `key ${i}`, i % 4 < 2);
    await makeData(application, `data ${i}`);
  }
}

/** Expects that the member got each object once. */
async function expectOnce(bed, applications, before) {
  await Promise.all(applications.map((application) => application.untilState(MEMBERS, 'active')));
  const image = await expectWhole(bed, applications);
  assert.equal(image.size, before + 2 * MISSED, 'number of objects');
}

const together = {
  name: 'both versions recover one member at once',
  async run(bed) {
    const applications = await Promise.all(['former', 'present'].map((version) => bed.openWhole(version)));
    const before = (await applications[0].ask('find')).length;
    await missObjects(bed, applications);
    bed.heal();
    await expectOnce(bed, applications, before);
    return `${2 * MISSED} objects`;
  },
};

const inTurn = (first, second) => ({
  name: `the ${second} version waits while the ${first} one recovers a member`,
  async run(bed) {
    const applications = await Promise.all([first, second].map((version) => bed.openWhole(version)));
    const [application, other] = applications;
    const before = (await application.ask('find')).length;
    await missObjects(bed, applications);
    const counted = bed.met(second, AWAY).length;
    bed.fault(first, AWAY, `C_UnwrapKey delay=${SLOW}`);
    const keysGiven = () => bed.met(first, AWAY).filter((line) => line.endsWith('C_UnwrapKey delay')).length;
    await until(
      () => keysGiven() > 2,
      () => `${AWAY} gets keys from the ${first} version`,
    );
    bed.fault(second, AWAY, 'C_UnwrapKey trace', 'C_CreateObject trace');
    await application.untilState(MEMBERS, 'active');
    const calls = bed.met(second, AWAY).slice(counted);
    const written = calls.filter((line) => /(?:C_UnwrapKey|C_CreateObject) trace$/u.test(line));
    assert.deepEqual(written, [], `the ${second} version writes on ${AWAY} meanwhile`);
    bed.heal();
    await expectOnce(bed, [application, other], before);
    return `${keysGiven()} keys`;
  },
});

/** A member that missed changes of one version is brought back by the other, or by both. */
export const recoveries = [
  away('former', 'present'),
  away('present', 'former'),
  together,
  inTurn('former', 'present'),
  inTurn('present', 'former'),
];
