import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { ck } from '../../src/spec/constants.js';
import { type Job, resultOf, step } from '../../src/spec/job.js';
import { attach, BareHost } from '../support/bare-host.js';
import { faultyModule } from '../support/faulty/build.js';
import { type Folder, type Hsm, makeFolder, makeHsm } from '../support/softhsm.js';
import { until } from '../support/waiting.js';

const LANES = 4;
/** Time in which a job would begin if the host let it (ms). */
const PAUSE = 50;
const digestSha256 = { type: ck('CKM_SHA256'), fields: [] };

const random = (size: number): Job => ({ steps: [step('C_GenerateRandom', size)] });
const digest = (data: Uint8Array): Job => ({
  steps: [step('C_DigestInit', digestSha256), step('C_Digest', data)],
});

describe('lanes', () => {
  let folder: Folder;
  let hsm: Hsm;
  let control: string;
  let bare: BareHost;
  beforeAll(async () => {
    folder = makeFolder('lanes');
    hsm = await makeHsm(folder.path, 'lanes');
    control = join(folder.path, 'control');
  });
  afterEach(async () => {
    rmSync(control, { force: true });
    bare.channel.close();
    await bare.ended;
  });
  afterAll(() => folder.remove());

  const start = (): void => {
    bare = new BareHost({ ...hsm.env, FAULTY_MODULE: hsm.module, FAULTY_CONTROL: control, FAULTY_LOG: '/dev/null' });
    attach(bare, faultyModule, hsm.label, LANES);
  };

  /** Runs jobs that are shorter than the wake-up of a lane, after which one lane does all the work. */
  const runBrief = (): void => {
    for (let i = 0; i < 200; i += 1) bare.call(random(8));
  };

  test('give replies of all sizes, each to its job', () => {
    start();
    // Takes small sizes, sizes about the limit of a packet in shared memory, and sizes above the whole of it.
    const sizes = [1, 100, 8000, 8160, 8170, 8200, 60_000, 70_000, 200_000];
    const wanted = new Map<number, number>();
    for (let i = 0; i < 300; i += 1) {
      const size = sizes[(i * 7) % sizes.length] ?? 1;
      wanted.set(bare.send(random(size)), size);
      // Keeps a window as a group does.
      while (wanted.size >= 2 * LANES) take();
    }
    while (wanted.size > 0) take();

    function take(): void {
      const reply = bare.receive();
      expect(resultOf(reply, 0, 'C_GenerateRandom')).toHaveLength(wanted.get(reply.id) ?? -1);
      wanted.delete(reply.id);
    }
  });

  test('take jobs of all sizes, in their order', () => {
    start();
    for (const size of [1, 5000, 8100, 8140, 8200, 65_536, 300_000]) {
      const data = Buffer.alloc(size, size & 0xff);
      const [once, again] = [bare.call(digest(data)), bare.call(digest(Buffer.from(data)))];
      expect(resultOf(once, 1, 'C_Digest')).toEqual(resultOf(again, 1, 'C_Digest'));
    }
  });

  test('take over the waiting jobs from a lane whose job hangs', () => {
    start();
    runBrief();
    writeFileSync(control, 'C_DigestInit hang times=1\n');
    const before = [bare.send(random(8)), bare.send(random(8))];
    const hung = bare.send(digest(Buffer.alloc(8)));
    const after = Array.from({ length: 5 }, () => bare.send(random(8)));
    const replied = new Set(Array.from({ length: before.length + after.length }, () => bare.receive().id));
    expect(replied).toEqual(new Set([...before, ...after]));
    expect(bare.channel.lanes().map(({ job }) => job)).toEqual([hung]);
    // Runs more jobs without the hung lane, one by one and several at once.
    runBrief();
    const more = Array.from({ length: LANES }, () => bare.send(random(8)));
    expect(new Set(more.map(() => bare.receive().id))).toEqual(new Set(more));
    rmSync(control);
    expect(bare.receive().id).toBe(hung);
  });

  test('run jobs that wait for a device beside each other', async () => {
    start();
    writeFileSync(control, 'C_DigestInit delay=20\n');
    // Runs some jobs first, which show the host that they wait.
    for (let i = 0; i < 20; i += 1) bare.call(digest(Buffer.alloc(8)));
    writeFileSync(control, 'C_DigestInit hang\n');
    for (let i = 0; i < LANES; i += 1) bare.send(digest(Buffer.alloc(8)));
    await until(
      () => bare.channel.lanes().length === LANES,
      () => 'all lanes have begun a job',
    );
    rmSync(control);
    for (let i = 0; i < LANES; i += 1) bare.receive();
  });

  test('[Rule 5] an exclusive job runs alone in its host, and other jobs beside each other', async () => {
    start();
    const begun = (): number[] =>
      bare.channel
        .lanes()
        .map(({ job }) => job)
        .sort((a, b) => a - b);
    writeFileSync(control, 'C_DigestInit delay=20\n');
    for (let i = 0; i < 20; i += 1) bare.call(digest(Buffer.alloc(8)));
    writeFileSync(control, 'C_DigestInit hang\nC_GenerateRandom hang\n');
    const readers = [bare.send(digest(Buffer.alloc(8))), bare.send(digest(Buffer.alloc(8)))];
    await until(
      () => begun().length === 2,
      () => 'both readers have begun',
    );
    const write = bare.send({ ...random(8), exclusive: true });
    await wait(PAUSE);
    expect(begun()).toEqual(readers);
    writeFileSync(control, 'C_GenerateRandom hang\n');
    expect(new Set(readers.map(() => bare.receive().id))).toEqual(new Set(readers));
    await until(
      () => begun()[0] === write,
      () => 'the exclusive job has begun',
    );
    const later = bare.send(digest(Buffer.alloc(8)));
    await wait(PAUSE);
    expect(begun()).toEqual([write]);
    rmSync(control);
    expect(new Set([bare.receive().id, bare.receive().id])).toEqual(new Set([write, later]));
  });
});
