// Callers that sign and encrypt for as long as the service runs, and what becomes of their calls.
import { createHash, createPublicKey, randomBytes, verify } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';

const CALLERS = 8;
/** Between two calls of a caller (ms): the machine does other things as well. */
const REST = 5;
const MOST_FAILURES = 10;

const EC = { label: 'workload-ec', id: Buffer.from('ec') };
const AES = { label: 'workload-aes', id: Buffer.from('aes') };
/** DER of the curve's name, and of a public key's head on it: SubjectPublicKeyInfo, RFC 5480. */
const P256 = Buffer.from('06082a8648ce3d030107', 'hex');
const SPKI = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex');

/** The EC point within its octet string. */
const publicKeyOf = (point) =>
  createPublicKey({ key: Buffer.concat([SPKI, point.subarray(-65)]), format: 'der', type: 'spki' });

async function keysOf(token) {
  if ((await token.find({ label: EC.label })).length === 0) {
    await token.generateKeyPair(
      'EC_KEY_PAIR_GEN',
      { ...EC, token: true, verify: true, paramsEC: P256 },
      { ...EC, token: true, sign: true, sensitive: true, extractable: false },
    );
  }
  if ((await token.find({ label: AES.label })).length === 0) {
    await token.generateKey('AES_KEY_GEN', {
      ...AES,
      token: true,
      valueLen: 32,
      encrypt: true,
      decrypt: true,
      sensitive: true,
      extractable: false,
    });
  }
  const { pointEC } = await token.getAttributes(await token.get({ label: EC.label, class: 'PUBLIC_KEY' }), ['pointEC']);
  return {
    ec: await token.get({ label: EC.label, class: 'PRIVATE_KEY' }),
    publicKey: publicKeyOf(pointEC),
    aes: await token.get({ label: AES.label }),
  };
}

export class Workload {
  #token;
  #keys;
  #callers;
  #stopped = false;
  #done = 0;
  /** What each plaintext gave the first time: the same key gives the same again. */
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

  async untilState(member, states) {
    const isThere = () =>
      this.#token.status().members.some(({ name, state }) => name === member && states.includes(state));
    const hasBeen = () => this.#report.members.some((event) => event.member === member && states.includes(event.to));
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
        const isRight = turn % 2 === 0 ? await this.#sign() : await this.#encrypt(turn % 64);
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

  async #sign() {
    const data = randomBytes(64);
    const signature = await this.#token.sign('ECDSA', this.#keys.ec, createHash('sha256').update(data).digest());
    return verify('sha256', data, { key: this.#keys.publicKey, dsaEncoding: 'ieee-p1363' }, signature);
  }

  async #encrypt(number) {
    const plaintext = Buffer.alloc(32, number);
    const sealed = await this.#token.encrypt(
      { name: 'AES_CBC_PAD', params: { iv: Buffer.alloc(16) } },
      this.#keys.aes,
      plaintext,
    );
    const known = this.#known.get(number) ?? sealed;
    this.#known.set(number, known);
    return known.equals(sealed);
  }
}
