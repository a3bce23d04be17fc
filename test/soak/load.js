// Random calls of an application, and what the model learns of them.
import { setTimeout as sleep } from 'node:timers/promises';

const BLOCK = Buffer.alloc(16);
const DIGEST = Buffer.alloc(32, 7);
const paramsEC = Buffer.from('06082a8648ce3d030107', 'hex');
const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true };
/** Number of labels that the applications ensure. */
const SHARED = 6;
/** Longest pause between two calls (ms). */
const PAUSE = 30;

const below = (count) => Math.floor(Math.random() * count);
const listOf = (shares) => Object.entries(shares).flatMap(([name, share]) => Array(share).fill(name));
const KINDS = listOf({ key: 5, pair: 2, data: 3, ensure: 2, rename: 5, destroy: 8, encrypt: 12, find: 2 });

/** Returns what a failed call says of its change: `not done`, or `unknown`. */
const saysUnknown = ({ kind }) => kind === 'UnknownOutcomeError' || kind === 'ProcessEnded';

export class Load {
  counts = {};
  /** Faults: texts that begin with their kind. */
  faults = [];
  /** Messages of calls that failed as they may. */
  failures = [];
  #count = 0;
  /** Handles of ensured keys by label. */
  #ensured = new Map();

  constructor(model) {
    this.model = model;
  }

  /** Makes calls in an application until `isOver` or its process ends. */
  async run(application, isOver) {
    while (!isOver() && !application.hasEnded) {
      const kind = KINDS[below(KINDS.length)];
      const startedAt = performance.now();
      try {
        await this[kind](application);
        this.counts[kind] = (this.counts[kind] ?? 0) + 1;
      } catch (error) {
        this.faults.push(`wrong: ${kind} in ${application.version}: ${error.message}`);
      }
      const took = performance.now() - startedAt;
      if (took > 45_000)
        this.faults.push(`stuck: ${kind} in ${application.version} took ${(took / 1000).toFixed(0)} s`);
      await sleep(below(PAUSE));
    }
  }

  #label(application) {
    this.#count += 1;
    return `${application.version} ${this.#count}`;
  }

  #failed(error) {
    if (error.kind === 'ProcessEnded') this.counts.ended = (this.counts.ended ?? 0) + 1;
    else if (error.kind === 'UnknownOutcomeError') this.counts.unknown = (this.counts.unknown ?? 0) + 1;
    else this.failures.push(error.message);
  }

  /** Runs a creation; notes what may be there if it fails. Returns its result, or undefined. */
  async #make(label, count, work) {
    try {
      return await work();
    } catch (error) {
      this.#failed(error);
      const state = saysUnknown(error) ? 'maybe' : 'gone';
      for (let i = 0; i < count; i += 1)
        this.model.failed.set(i === 0 ? label : `${label} private`, { state, operation: error.operation });
      return undefined;
    }
  }

  async key(application) {
    const label = this.#label(application);
    const template = { ...aes, label, extractable: below(2) === 0 };
    const made = await this.#make(label, 1, () => application.ask('generateKey', 'AES_KEY_GEN', template));
    if (made !== undefined) this.model.add(made.handle, 'secret', label, undefined);
  }

  async pair(application) {
    const label = this.#label(application);
    const ofPublic = { token: true, label, paramsEC, verify: true };
    const ofPrivate = { token: true, label: `${label} private`, sign: true, extractable: below(2) === 0 };
    const made = await this.#make(label, 2, () =>
      application.ask('generateKeyPair', 'EC_KEY_PAIR_GEN', ofPublic, ofPrivate),
    );
    if (made === undefined) return;
    this.model.add(made.publicKey.handle, 'public', label, undefined);
    this.model.add(made.privateKey.handle, 'private', `${label} private`, made.publicKey.handle);
  }

  async data(application) {
    const label = this.#label(application);
    const template = { class: 'DATA', token: true, private: true, label, value: Buffer.from(label) };
    const made = await this.#make(label, 1, () => application.ask('createObject', template));
    if (made !== undefined) this.model.add(made.handle, 'data', label, label);
  }

  async ensure(application) {
    const label = `shared ${below(SHARED)}`;
    let made;
    try {
      made = await application.ask('ensureKey', label, 'AES_KEY_GEN', aes);
    } catch (error) {
      this.#failed(error);
      if (!this.#ensured.has(label)) this.model.failed.set(label, { state: 'maybe' });
      return;
    }
    const known = this.#ensured.get(label);
    if (known !== undefined && known !== made.handle)
      throw new Error(`ensureKey returned ${made.handle} for ${label}, and ${known} before`);
    if (known === undefined) {
      this.#ensured.set(label, made.handle);
      this.model.failed.delete(label);
      this.model.add(made.handle, 'ensured', label, undefined);
    }
  }

  /** Begins a change of an object; returns the end of the change. */
  #begin(entry) {
    entry.isChanging = true;
    return () => {
      entry.isChanging = false;
      entry.since = performance.now();
    };
  }

  async rename(application) {
    const entry = this.model.pick(({ kind }) => kind === 'secret' || kind === 'data');
    if (entry === undefined) return;
    const label = this.#label(application);
    const end = this.#begin(entry);
    try {
      await application.ask('setAttributes', entry.handle, { label });
      entry.labels = [label];
    } catch (error) {
      this.#failed(error);
      if (saysUnknown(error)) {
        entry.labels = [...entry.labels, label];
        if (error.operation !== undefined) entry.unknown.push({ operation: error.operation, label });
      }
    }
    end();
  }

  async destroy(application) {
    const entry = this.model.pick(({ kind }) => kind !== 'ensured');
    if (entry === undefined) return;
    const end = this.#begin(entry);
    try {
      await application.ask('destroyObject', entry.handle);
      entry.state = 'gone';
    } catch (error) {
      this.#failed(error);
      if (saysUnknown(error)) {
        entry.state = 'maybe';
        if (error.operation !== undefined) entry.unknown.push({ operation: error.operation, isDestroy: true });
      }
    }
    end();
  }

  async encrypt(application) {
    const entry = this.model.pick(({ kind }) => kind === 'secret' || kind === 'ensured' || kind === 'private');
    if (entry !== undefined) await this.use(application, entry);
  }

  /** Uses a key; throws if the result is wrong, or if a key that is there is not found. */
  async use(application, entry) {
    const { handle, kind } = entry;
    try {
      if (kind === 'private') {
        const signature = await application.ask('sign', 'ECDSA', handle, DIGEST);
        const publicKey = this.model.entries.get(entry.use);
        if (publicKey?.state !== 'there') return;
        const isRight = await application.ask('verify', 'ECDSA', publicKey.handle, DIGEST, signature);
        if (!isRight) throw Object.assign(new Error(`${entry.labels} signs as another key`), { kind: 'Wrong' });
        return;
      }
      const result = (await application.ask('encrypt', 'AES_ECB', handle, BLOCK)).toString('hex');
      entry.use ??= result;
      if (entry.use !== result) throw Object.assign(new Error(`${entry.labels} encrypts otherwise`), { kind: 'Wrong' });
    } catch (error) {
      if (error.kind === 'Wrong') throw error;
      this.#failed(error);
      const publicKey = this.model.entries.get(entry.use);
      const isChanging =
        entry.isChanging || (publicKey !== undefined && (publicKey.isChanging || publicKey.state !== 'there'));
      const wasThere = entry.state === 'there' && !isChanging;
      if (wasThere && /HANDLE_INVALID/u.test(error.message)) throw new Error(`${entry.labels}: ${error.message}`);
    }
  }

  /** Finds all objects; what was there all the time must be in the answer, and what was gone must not. */
  async find(application) {
    const startedAt = performance.now();
    const before = [...this.model.entries.values()].filter(({ isChanging }) => !isChanging);
    const states = new Map(before.map((entry) => [entry, entry.state]));
    let found;
    try {
      found = await application.ask('find');
    } catch (error) {
      this.#failed(error);
      return;
    }
    const handles = new Set(found.map(({ handle }) => handle));
    for (const [entry, state] of states) {
      if (entry.isChanging || entry.since > startedAt || state === 'maybe') continue;
      if (handles.has(entry.handle) !== (state === 'there'))
        this.faults.push(
          `told wrongly: find in ${application.version} ${state === 'there' ? 'lacks' : 'has'} ${entry.labels} (${entry.handle}), which is ${state}`,
        );
    }
  }
}
