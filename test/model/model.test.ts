import { afterAll, beforeAll, test } from '@jest/globals';
import fc from 'fast-check';
import { Cluster } from '../support/cluster.js';
import { ModelRun, type Step } from '../support/model.js';

/** Limits of a run: number of sequences, and time (minutes). `npm run test:soak` raises both. */
const runs = Number(process.env.MODEL_RUNS ?? 4);
const minutes = Number(process.env.MODEL_MINUTES ?? 5);
/** Seed and path that a failure has printed, for a replay. By default the long run has a random seed. */
const isLong = process.env.MODEL_RUNS !== undefined;
const seed = Number(process.env.MODEL_SEED ?? (isLong ? Math.floor(Math.random() * 2 ** 31) : 4));
const path = process.env.MODEL_PATH;
const length = Number(process.env.MODEL_LENGTH ?? 20);

/** True if several keys may share label and CKA_ID. */
const twins = process.env.MODEL_TWINS !== undefined;

const app = fc.constantFrom(0, 0, 1);
const on = fc.nat({ max: 20 });
const name = fc.nat({ max: 7 });
const member = fc.nat({ max: 2 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constantFrom('create', 'generate'), app, name }) },
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constantFrom('copy', 'setLabel', 'setId', 'destroy', 'sign', 'sign'),
      app,
      on,
      name,
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom('die', 'hang', 'drop', 'return', 'return'),
      member,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('restart' as const), app, name }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('drain', 'undrain', 'remove', 'add'), app, member }) },
);

let model: Cluster;
beforeAll(async () => {
  // Makes three tokens, of which two form a group; the third can be added.
  model = await Cluster.form('model', [[], [], []], 2);
});
afterAll(() => model.close());

async function runOnce(steps: readonly Step[]): Promise<void> {
  const cluster = model.copy('model-run');
  try {
    await new ModelRun(cluster, ['hsm1', 'hsm2', 'hsm3'], ['hsm1', 'hsm2'], twins).run(steps);
  } finally {
    await cluster.close();
  }
}

test(
  'in random sequences no key is lost, none comes back, and all members hold the same in the end',
  async () => {
    process.stderr.write(`model: MODEL_SEED=${seed}${path === undefined ? '' : ` MODEL_PATH=${path}`}\n`);
    const started = Date.now();
    let done = 0;
    let running: Promise<void> = Promise.resolve();
    const result = await fc.check(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: length, size: 'max' }), async (steps) => {
        running = runOnce(steps);
        await running;
        done += 1;
      }),
      {
        seed,
        numRuns: runs,
        endOnFailure: process.env.MODEL_SHRINK === undefined,
        interruptAfterTimeLimit: minutes * 60_000,
        ...(path === undefined ? {} : { path }),
      },
    );
    // Waits for a sequence that was running when the time was over.
    await running.catch(() => {});
    process.stderr.write(`model: ${done} sequences in ${Math.round((Date.now() - started) / 1000)} s\n`);
    if (!result.failed || result.counterexample === null) return;
    const replay = `MODEL_SEED=${result.seed} MODEL_PATH=${result.counterexamplePath ?? ''}`;
    throw new Error(`${replay}\n${String((result.errorInstance as Error).message)}`);
  },
  minutes * 60_000 + 300_000,
);
