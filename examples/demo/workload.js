// Workload of the demo: callers sign and encrypt on the virtual token and check each result with node:crypto.
import { createDecipheriv, createHash, randomBytes, verify } from 'node:crypto';

function percentile(sorted, share) {
  return sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

const rounded = (ms) => Math.round(ms * 100) / 100;

export class Workload {
  operations = 0;
  failed = 0;
  wrong = 0;
  #latencies = [];
  #failoverLatencies = [];
  #stopped = false;
  #jobs;

  constructor(jobs) {
    this.#jobs = jobs;
  }

  static async prepare(token, { rsa, ec, aes }) {
    const rsaKey = await token.get({ label: rsa.label, class: 'PRIVATE_KEY' });
    const ecKey = await token.get({ label: ec.label, class: 'PRIVATE_KEY' });
    const aesKey = await token.get({ label: aes.label, class: 'SECRET_KEY' });
    const workload = new Workload([
      async (data) => {
        const signature = await token.sign('SHA256_RSA_PKCS', rsaKey, data);
        return () => verify('sha256', data, rsa.publicKey, signature);
      },
      async (data) => {
        const signature = await token.sign('ECDSA', ecKey, createHash('sha256').update(data).digest());
        return () => verify('sha256', data, { key: ec.publicKey, dsaEncoding: 'ieee-p1363' }, signature);
      },
      async (data) => {
        const iv = randomBytes(12);
        const sealed = await token.encrypt({ name: 'AES_GCM', params: { iv, tagBits: 128 } }, aesKey, data);
        return () => {
          const decipher = createDecipheriv('aes-256-gcm', aes.value, iv).setAuthTag(sealed.subarray(-16));
          return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]).equals(data);
        };
      },
    ]);
    token.on('failover', ({ duration }) => workload.#failoverLatencies.push(duration));
    return workload;
  }

  stop() {
    this.#stopped = true;
  }

  /** Runs one caller: all jobs in turn until `stop`. */
  async run(caller) {
    for (let i = caller; !this.#stopped; i += 1) {
      const started = performance.now();
      try {
        const check = await this.#jobs[i % this.#jobs.length](randomBytes(64));
        this.#latencies.push(performance.now() - started);
        this.operations += 1;
        if (!isGood(check)) this.wrong += 1;
      } catch (error) {
        this.failed += 1;
        process.stderr.write(`a call failed: ${error.message}\n`);
      }
    }
  }

  summary({ counters }) {
    const all = this.#latencies.sort((a, b) => a - b);
    const met = this.#failoverLatencies.sort((a, b) => a - b);
    return {
      operations: this.operations,
      failed: this.failed,
      wrong: this.wrong,
      failovers: counters.failovers,
      secondAttempts: counters.hedged,
      latencyMs: { median: rounded(percentile(all, 0.5)), p99: rounded(percentile(all, 0.99)) },
      metAFailureMs: {
        calls: met.length,
        median: rounded(percentile(met, 0.5)),
        longest: rounded(met.at(-1) ?? 0),
      },
      longestMs: rounded(all.at(-1) ?? 0),
    };
  }
}

function isGood(check) {
  try {
    return check();
  } catch {
    return false;
  }
}
