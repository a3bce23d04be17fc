// Callers that sign and encrypt for as long as the service runs, and what becomes of their calls.
import { setTimeout as pause } from 'node:timers/promises';

const CALLERS = 8;
/** Between two calls of a caller (ms): the machine does other things as well. */
const REST = 40;
const MOST_FAILURES = 1000;

/**
 * Secret keys: private ones do not pass p11-kit's remoting, and so could not be on both HSMs. They are made once, and never
 * leave the HSMs in the clear.
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
  /** What each input gave the first time: the same key gives the same again, whichever HSM does it. */
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

  mark() {
    this.#report = { since: Date.now(), operations: 0, failed: 0, wrong: 0, longest: 0, failures: [], members: [] };
  }

  /**
   * `{ since, until, operations, failed, wrong, longest, failures: [{ from, until, message }], members: [{ at, member,
   * from, to, reason }] }`, times in ms of the wall clock, `longest` of one operation in ms.
   */
  report() {
    return { ...this.#report, until: Date.now() };
  }

  /** `since`: a time of the report's clock, or nothing for the report's beginning. */
  async untilState(member, states, since = 0) {
    const isThere = () =>
      this.#token.status().members.some(({ name, state }) => name === member && states.includes(state));
    const hasBeen = () =>
      this.#report.members.some(({ member: name, to, at }) => name === member && states.includes(to) && at >= since);
    while (!isThere() && !hasBeen()) await new Promise((resolve) => this.#token.once('member', resolve));
  }

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
