// Workload: callers that sign and encrypt while the service runs, and a report of their calls.
import { setTimeout as pause } from 'node:timers/promises';

/** Number of callers. */
const CALLERS = 8;
/** Pause between two calls of a caller (ms), which leaves the machine time for other work. */
const REST = 40;
/** Maximum number of failures listed in a report. */
const MOST_FAILURES = 1000;

/**
 * Template of the workload's keys. Secret keys only: p11-kit's remoting cannot transport private keys to both HSMs. The
 * keys are made once and never leave the HSMs in the clear.
 */
const SECRET = { token: true, valueLen: 32, sensitive: true, extractable: false };
const MAC = { ...SECRET, label: 'workload-mac', sign: true, verify: true };
const AES = { ...SECRET, label: 'workload-aes', encrypt: true, decrypt: true };

async function keysOf(token) {
  const made = async (mechanism, template) => {
    const [found] = await token.find({ label: template.label });
    return found ?? (await token.generateKey(mechanism, template));
  };
  return { mac: await made('GENERIC_SECRET_KEY_GEN', MAC), aes: await made('AES_KEY_GEN', AES) };
}

export class Workload {
  #token;
  #keys;
  #callers;
  #stopped = false;
  #done = 0;
  /** First result for each input; every HSM must give the same result, because all have the same keys. */
  #known = new Map();
  #report;

  constructor(token, keys) {
    this.#token = token;
    this.#keys = keys;
    this.mark();
    token.on('member', ({ member, from, to, reason }) => {
      this.#report.members.push({ at: Date.now(), member, from, to, reason });
    });
  }

  static async prepare(token) {
    return new Workload(token, await keysOf(token));
  }

  start() {
    this.#callers = Array.from({ length: CALLERS }, (_, caller) => this.#call(caller));
  }

  async stop() {
    this.#stopped = true;
    await Promise.all(this.#callers);
  }

  /** Begins a new report. */
  mark() {
    this.#report = { since: Date.now(), operations: 0, failed: 0, wrong: 0, longest: 0, failures: [], members: [] };
  }

  /**
   * Returns `{ since, until, operations, failed, wrong, longest, failures: [{ from, until, message }], members: [{ at,
   * member, from, to, reason }] }`. Times are in ms of the wall clock; `longest` is the longest operation (ms).
   */
  report() {
    return { ...this.#report, until: Date.now() };
  }

  /**
   * Resolves when a member is in one of the states, or has been since `since` (ms of the wall clock) in this report.
   */
  async untilState(member, states, since = 0) {
    const isThere = () =>
      this.#token.status().members.some(({ name, state }) => name === member && states.includes(state));
    const hasBeen = () =>
      this.#report.members.some(({ member: name, to, at }) => name === member && states.includes(to) && at >= since);
    while (!isThere() && !hasBeen()) await new Promise((resolve) => this.#token.once('member', resolve));
  }

  /** Resolves after this number of further operations. */
  async untilDone(operations) {
    for (const until = this.#done + operations; this.#done < until; ) await pause(REST);
  }

  async #call(caller) {
    for (let turn = caller; !this.#stopped; turn += 1) {
      const from = Date.now();
      const startedAt = performance.now();
      try {
        const isRight = turn % 2 === 0 ? await this.#sign(turn % 64) : await this.#encrypt(turn % 64);
        this.#done += 1;
        this.#report.operations += 1;
        if (!isRight) this.#report.wrong += 1;
      } catch (error) {
        this.#report.failed += 1;
        if (this.#report.failures.length < MOST_FAILURES)
          this.#report.failures.push({ from, until: Date.now(), message: error.message });
      }
      this.#report.longest = Math.max(this.#report.longest, Math.round(performance.now() - startedAt));
      await pause(REST);
    }
  }

  async #sign(number) {
    return this.#isKnown(
      `mac ${number}`,
      await this.#token.sign('SHA256_HMAC', this.#keys.mac, Buffer.alloc(64, number)),
    );
  }

  async #encrypt(number) {
    const plaintext = Buffer.alloc(32, number);
    const sealed = await this.#token.encrypt('AES_ECB', this.#keys.aes, plaintext);
    return this.#isKnown(`aes ${number}`, sealed);
  }

  #isKnown(name, result) {
    const known = this.#known.get(name) ?? result;
    this.#known.set(name, known);
    return known.equals(result);
  }
}
