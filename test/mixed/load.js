import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { aes, encrypt, makeData, makePair } from './expectations.js';

/** Pause between two changes (ms): a change's own records are removed after its call has returned. */
const PAUSE = 100;
/** Maximum number of tries to use a key: each enumerates the objects, once in `freshness` (1 s). */
const TRIES = 5;
/** Number of labels that both versions give to keys. */
const SHARED = 4;

const below = (count) => Math.floor(Math.random() * count);
const oneOf = (list) => list[below(list.length)];

const listOf = (shares) => Object.entries(shares).flatMap(([name, share]) => Array(share).fill(name));

/** Kinds of changes, each as often as its share, of objects with names of their own. */
export const OWN_NAMES = listOf({ makeKey: 6, makePair: 2, makeData: 3, rename: 4, destroy: 5 });
/** Kinds of changes that give keys of both versions equal names too. */
export const EQUAL_NAMES = listOf({ makeKey: 2, makeShared: 7, renameToShared: 3, makeData: 1, rename: 2, destroy: 5 });

/** Random calls of several applications on one group, with a model of the objects that the group must have. */
export class Load {
  /** Objects by handle: `expected` is as in imageOf. */
  #objects = new Map();
  /** Labels under which a failed call may have made an object, with the number of such objects. */
  #doubtful = new Map();
  #turns = Promise.resolve();
  #count = 0;
  /** Number of calls by kind. */
  counts = {};
  /** Messages of failed changes. */
  failures = [];

  /** Begins with the objects of an image. */
  constructor(image) {
    for (const [handle, expected] of image) this.#add(handle, expected);
  }

  #add(handle, expected, partner) {
    assert.ok(
      !this.#objects.has(handle),
      `${expected.label} got the handle of ${this.#objects.get(handle)?.expected.label}`,
    );
    this.#objects.set(handle, { handle, expected, partner, users: 0, isChanging: false, labels: [expected.label] });
  }

  /** Makes changes of the given kinds in one application, until a time. */
  async change(application, kinds, end) {
    while (Date.now() < end) {
      const name = oneOf(kinds);
      if (await this[name](application)) this.#counted(name);
      await sleep(below(20));
    }
  }

  /** Encrypts in one application, until a time. */
  async use(application, end) {
    while (Date.now() < end) {
      if (await this.encrypt(application)) this.#counted('encrypt');
      await sleep(below(40));
    }
  }

  #counted(name) {
    this.counts[name] = (this.counts[name] ?? 0) + 1;
  }

  #label(application) {
    this.#count += 1;
    return `${application.version} ${this.#count}`;
  }

  #pick(isFit) {
    const fit = [...this.#objects.values()].filter((object) => !object.isChanging && isFit(object));
    return fit.length === 0 ? undefined : oneOf(fit);
  }

  /**
   * Runs a change after all earlier ones and a pause. Changes of two processes at the very same moment are left out,
   * since they show known faults and not differences of the versions. In record format 1 the handle of a key is a hash
   * of its name: two keys of one label that are made at once get one handle, which format 2 mends. And a SoftHSM
   * process that writes does not see what another one wrote just before (docs/operation.md, SoftHSM).
   */
  #inTurn(change) {
    const done = this.#turns.then(change);
    this.#turns = done.then(
      () => sleep(PAUSE),
      () => undefined,
    );
    return done;
  }

  /** Makes objects; if the call fails, an object of the label may be there or not. */
  async #make(label, number, work) {
    return await this.#inTurn(async () => {
      let made;
      try {
        made = await work();
      } catch (error) {
        this.failures.push(error.message);
        this.#doubtful.set(label, (this.#doubtful.get(label) ?? 0) + number);
        return true;
      }
      for (const [handle, expected, partner] of made) this.#add(handle, expected, partner);
      return true;
    });
  }

  async #makeSecret(application, label) {
    return await this.#make(label, 1, async () => {
      const template = { ...aes, label, extractable: below(2) === 0 };
      const { handle } = await application.ask('generateKey', 'AES_KEY_GEN', template);
      return [[handle, { class: 'SECRET_KEY', label, use: await encrypt(application, handle) }]];
    });
  }

  makeKey(application) {
    return this.#makeSecret(application, this.#label(application));
  }

  makeShared(application) {
    return this.#makeSecret(application, `shared ${below(SHARED)}`);
  }

  makePair(application) {
    const label = this.#label(application);
    return this.#make(label, 2, async () => {
      const [publicKey, privateKey] = await makePair(application, label);
      const { pointEC } = await application.ask('getAttributes', publicKey.handle, ['pointEC']);
      return [
        [publicKey.handle, { class: 'PUBLIC_KEY', label, use: pointEC.toString('hex') }, privateKey.handle],
        [privateKey.handle, { class: 'PRIVATE_KEY', label, use: 'signs' }, publicKey.handle],
      ];
    });
  }

  makeData(application) {
    const label = this.#label(application);
    return this.#make(label, 1, async () => {
      const { handle } = await makeData(application, label);
      return [[handle, { class: 'DATA', label, use: Buffer.from(label).toString('hex') }]];
    });
  }

  /** Encrypts; repeats the call while the process does not see a key that another one has made (SoftHSM). */
  async #encryptLater(application, handle) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await encrypt(application, handle);
      } catch (error) {
        if (tries === TRIES || !/: no member has an object with that handle/u.test(error.message)) throw error;
        this.#counted('repeated');
      }
    }
  }

  /** Encrypts with a key that any application made; another one may rename the key meanwhile. */
  async encrypt(application) {
    const all = [...this.#objects.values()];
    const fit = all.filter(({ expected, isDestroyed }) => expected.class === 'SECRET_KEY' && !isDestroyed);
    if (fit.length === 0) return false;
    const object = oneOf(fit);
    object.users += 1;
    try {
      const use = await this.#encryptLater(application, object.handle);
      assert.equal(use, object.expected.use, `${application.version}: ${object.expected.label} encrypts otherwise`);
    } finally {
      object.users -= 1;
    }
    return true;
  }

  rename(application) {
    return this.#rename(application, this.#label(application));
  }

  renameToShared(application) {
    return this.#rename(application, `shared ${below(SHARED)}`);
  }

  /**
   * Renames a key of one version. Keys of names that both versions use keep them: in record format 1 a process that has
   * not read the alias yet gives the handle of a renamed key to the next key of its former name.
   */
  async #rename(application, label) {
    const object = this.#pick(({ expected }) => expected.class === 'SECRET_KEY' && !/^shared/u.test(expected.label));
    if (object === undefined) return false;
    object.isChanging = true;
    await this.#inTurn(async () => {
      try {
        await application.ask('setAttributes', object.handle, { label });
        object.expected.label = label;
        object.labels = [label];
      } catch (error) {
        this.failures.push(error.message);
        // Leaves the key alone from now on: either label may be its label.
        object.labels = [object.expected.label, label];
        return;
      }
      object.isChanging = false;
    });
    return true;
  }

  /** Destroys an object that is not in use; of a pair both keys. */
  async destroy(application) {
    const object = this.#pick(({ users, partner }) => users === 0 && !this.#objects.get(partner)?.isChanging);
    if (object === undefined) return false;
    const all = [object, this.#objects.get(object.partner)].filter((each) => each !== undefined);
    for (const each of all) Object.assign(each, { isChanging: true, isDestroyed: true });
    await this.#inTurn(async () => {
      for (const each of all) {
        try {
          await application.ask('destroyObject', each.handle);
          this.#objects.delete(each.handle);
        } catch (error) {
          this.failures.push(error.message);
        }
      }
    });
    return true;
  }

  /** Expects that an image has the objects of the model: none is lost, none is there twice. */
  check(image) {
    for (const { handle, expected, labels, isDestroyed } of this.#objects.values()) {
      const found = image.get(handle);
      if (found === undefined && isDestroyed) continue;
      assert.ok(found !== undefined, `${expected.label} is lost`);
      assert.ok(labels.includes(found.label), `${found.label} should be ${labels}`);
      assert.deepEqual({ ...found, label: expected.label }, expected, `${expected.label} is another object`);
    }
    for (const [handle, { label }] of image) {
      if (this.#objects.has(handle)) continue;
      const left = this.#doubtful.get(label) ?? 0;
      assert.ok(left > 0, `${label} is there once too often, or was destroyed`);
      this.#doubtful.set(label, left - 1);
    }
  }
}
