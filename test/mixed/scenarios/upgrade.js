import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { fixture } from '../bed.js';
import { aes, encrypt, expectEqualTokens, expectFixture, expectWhole, imageOf, makeData } from '../expectations.js';

/** Maximum number of tries to upgrade the group: an intent of another process refuses the upgrade. */
const TRIES = 200;
/** Longest pause between two keys of the former version, and between two tries (ms). */
const PAUSE = 300;
/** Time in which a process of the former version reads the group record again (ms). */
const AFTERWARDS = 10_000;
/** CKR_ACTION_PROHIBITED, the code of a refused change. */
const PROHIBITED = 0x1b;
/** Deadline of calls that a process without members cannot answer (ms). */
const within = { deadline: 3000 };

const newer = /a later version has written records in this group: this version does not write/u;
/** Reason for which an open process of the former version loses its members: it cannot read the new group record. */
const unreadable = /the token has no group record/u;

const generate = (application, label) =>
  application.ask('generateKey', 'AES_KEY_GEN', { ...aes, label, extractable: false }, within);

/** Expects that a change is refused for one of the reasons. */
async function expectRefused(change, ...reasons) {
  const error = await change.then(
    () => assert.fail('a change of the former version succeeded after the upgrade'),
    (thrown) => thrown,
  );
  assert.ok(
    reasons.some((reason) => reason.test(error.message)),
    error.message,
  );
}

/** Makes keys until a change is refused; returns their uses by handle. */
async function makeUntilRefused(application) {
  const uses = new Map();
  for (let count = 1; ; count += 1) {
    let made;
    try {
      made = await generate(application, `before the upgrade ${count}`);
    } catch (error) {
      await expectRefused(Promise.reject(error), newer, unreadable);
      return uses;
    }
    uses.set(made.handle, await encrypt(application, made.handle));
    await sleep(Math.random() * PAUSE);
  }
}

/** Upgrades the group; repeats the call while changes of another process refuse it. Returns the number of tries. */
async function upgradeGroup(application) {
  for (let tries = 1; ; tries += 1) {
    try {
      const { from, to } = await application.ask('upgradeGroup');
      assert.deepEqual({ from, to }, { from: 1, to: 2 });
      return tries;
    } catch (error) {
      if (error.code !== PROHIBITED || tries === TRIES) throw error;
      await sleep(Math.random() * PAUSE);
    }
  }
}

/** Uses keys in a process that may have lost its members; returns true if it has. */
async function hasLostMembers(application, uses) {
  for (const [handle, use] of uses) {
    try {
      assert.equal(await encrypt(application, handle, within), use);
    } catch (error) {
      if (unreadable.test(error.message)) return true;
      throw error;
    }
  }
  return false;
}

/** Uses a process of the former version after the upgrade; returns true if it has lost its members. */
async function useFormer(bed, former, uses) {
  const objects = await expectEqualTokens(bed);
  const [{ handle }] = fixture.keys;
  for (const end = Date.now() + AFTERWARDS; Date.now() < end; await sleep(PAUSE))
    if (await hasLostMembers(former, uses)) break;
  await expectRefused(former.ask('setAttributes', handle, { label: 'other' }, within), newer, unreadable);
  await expectRefused(former.ask('destroyObject', handle, within), newer, unreadable);
  await expectRefused(makeData(former, 'refused', within), newer, unreadable);
  assert.deepEqual(await expectEqualTokens(bed), objects, 'a refused change is half done');
  return await hasLostMembers(former, uses);
}

/**
 * Opens a process of the former version after the upgrade: it changes nothing, and no handle names another key. It reads
 * no alias records without a group record that it can read, so it does not know the handles of twins and renamed keys.
 */
async function openFormer(bed) {
  const late = await bed.openWhole('former');
  for (const { handle, label, result } of fixture.keys) {
    const use = await encrypt(late, handle).catch((error) => {
      assert.match(error.message, /no member has an object with that handle/u);
      return undefined;
    });
    assert.ok(use === undefined || use === result, `the handle of ${label} names another key in the former version`);
  }
  await expectRefused(generate(late, 'refused'), newer);
  await late.end();
}

/** The present version upgrades the group while a process of the former one makes keys. */
export const upgrade = {
  name: 'the present version upgrades the group while a process of the former one is open',
  async run(bed) {
    const former = await bed.openWhole('former');
    // Has the former process know all keys.
    expectFixture(await imageOf(former));
    const present = await bed.openWhole('present');
    const making = makeUntilRefused(former);
    // Reports an error of the former process only if the upgrade succeeds.
    making.catch(() => undefined);
    await sleep(PAUSE);
    const tries = await upgradeGroup(present);
    const uses = await making;
    const count = uses.size;
    for (const { handle, result } of fixture.keys) uses.set(handle, result);
    await bed.untilTidy([present]);
    const isLost = await useFormer(bed, former, uses);

    const [plain] = fixture.keys;
    const made = await generate(present, plain.label);
    assert.ok(!uses.has(made.handle), 'a new key has the handle of another one');
    uses.set(made.handle, await encrypt(present, made.handle));
    await openFormer(bed);
    await former.end();
    const restarted = await bed.openWhole('present');
    const next = await generate(restarted, 'after the restart');
    uses.set(next.handle, await encrypt(restarted, next.handle));
    const image = await expectWhole(bed, [present, restarted], ['present']);
    expectFixture(image);
    for (const [handle, use] of uses) assert.equal(image.get(handle)?.use, use, 'a key made around the upgrade');
    assert.equal(image.size, uses.size + fixture.objects.length, 'number of objects');
    const state = isLost ? 'loses its members until it is started again' : 'goes on encrypting';
    return `${count} keys made meanwhile, ${tries} tries; the open process of the former version ${state}`;
  },
};

/** A backup of the former version is restored into the upgraded group. */
export const restore = {
  name: 'a backup of the former version restores into the upgraded group',
  async run(bed) {
    const former = await bed.openWhole('former');
    const before = await imageOf(former);
    const { objects, left } = await former.ask('backup', await bed.makeBackupToken('former'));
    assert.deepEqual({ objects, left }, { objects: before.size, left: [] });
    await former.end();

    const present = await bed.openWhole('present');
    await upgradeGroup(present);
    for (const handle of before.keys()) await present.ask('destroyObject', handle);
    const made = await generate(present, fixture.keys[0].label);
    assert.ok(!before.has(made.handle), 'a new key has the handle of a destroyed one');
    const report = await present.ask('restore', await bed.makeBackupToken('present'));
    assert.deepEqual(report, { restored: before.size, present: 0, failed: [] });
    const image = await expectWhole(bed, [present], ['present']);
    assert.ok(image.delete(made.handle), 'the key that was made before the restore is lost');
    assert.deepEqual(image, before, 'the restored objects differ');
    return `${before.size} objects`;
  },
};
