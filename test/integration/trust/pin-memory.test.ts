import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { GroupConfigInput } from '../../../src/index.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';
import { type Finding, scanMemory } from '../../support/memory-scan.js';
import { type Program, startService } from '../../support/process.js';
import { until } from '../../support/waiting.js';

const VARIABLE = 'PKCS11_HA_TEST_SCANNED_PIN';

let cluster: Cluster;
let pin: string;
let next: string;
let services: Program[] = [];
beforeEach(async () => {
  cluster = await Cluster.form('pin-memory', [[], []]);
  [pin = '', next = ''] = [0, 1].map(() => randomBytes(12).toString('hex'));
  const token = await cluster.open(configuration());
  await token.changePin({ file: write('pin', pin) });
  await token.close();
});
afterEach(async () => {
  for (const { child } of services) child.kill('SIGKILL');
  await Promise.all(services.map(({ ended }) => ended));
  services = [];
  delete process.env[VARIABLE];
  await cluster.close();
});

/** Writes a file that holds a PIN. */
function write(name: string, text: string): string {
  const file = join(cluster.folder.path, name);
  writeFileSync(file, `${text}\n`, { mode: 0o600 });
  return file;
}

function configuration(): GroupConfigInput {
  // A delayed C_SetPIN must not count as hung.
  return cluster.configuration({ hangAfter: 4000, writeHangAfter: 20_000, deadline: 60_000 });
}

/** Service that holds the group open. */
interface Holder {
  /** Ids of the process and of its hosts. */
  readonly pids: readonly [number, ...number[]];
  tell(command: string): void;
  /** Waits until the service has carried out that many commands. */
  untilDone(count: number): Promise<void>;
}

async function hold(reference: NonNullable<GroupConfigInput['pin']>): Promise<Holder> {
  const service = startService('hold', { ...configuration(), pin: reference });
  services.push(service);
  const { pids } = (await service.told) as { pids: number[] };
  return {
    pids: [service.child.pid ?? 0, ...pids],
    tell: (command) => service.child.stdin?.write(`${command}\n`),
    untilDone: (count) =>
      until(
        () => service.lines.length > count,
        () => `${count} commands are done; output: ${service.lines.join(' ')}`,
      ),
  };
}

const findingsOf = (pids: readonly number[], text: string): Finding[] =>
  pids.flatMap((pid) => scanMemory(pid, Buffer.from(text)));
const unguarded = (pids: readonly number[], ...texts: readonly string[]): Finding[] =>
  texts.flatMap((text) => findingsOf(pids, text)).filter(({ guarded }) => !guarded);

describe('[Rule 18] PINs in the memory of an application and of its hosts', () => {
  test.each([
    ['an environment variable', () => ({ env: VARIABLE }), 1],
    ['a file', () => ({ file: write('pin', pin) }), 0],
    ['a program', () => ({ command: ['cat', write('pin', pin)] }), 0],
  ] as const)('a PIN from %s is in locked memory only', async (way, reference, kept) => {
    if (way.includes('variable')) process.env[VARIABLE] = pin;
    const service = await hold(reference());
    const [own, ...hosts] = service.pids;
    // The scan finds what is there.
    expect(findingsOf([own], pin)).not.toEqual([]);
    expect(unguarded(service.pids, pin)).toEqual([]);
    expect(findingsOf(hosts, pin)).toEqual([]);
    service.tell('close');
    await service.untilDone(1);
    // A value from a variable stays in one locked page, so that the group can be opened again.
    expect(findingsOf([own], pin).map(({ guarded }) => guarded)).toEqual(Array(kept).fill(true));
    service.tell('open');
    await service.untilDone(2);
    expect(unguarded([own], pin)).toEqual([]);
  });

  test('during and after a change, both PINs are in locked memory only', async () => {
    const service = await hold({ file: write('pin', pin) });
    const [own, ...hosts] = service.pids;
    cluster.fault('hsm2', 'C_SetPIN trace', 'C_SetPIN delay=1000 times=1');
    service.tell(`change ${write('next', next)}`);
    await cluster.untilMet('hsm2', /C_SetPIN/u);
    for (const each of [pin, next]) expect(findingsOf([own], each)).not.toEqual([]);
    expect(unguarded(service.pids, pin, next)).toEqual([]);
    await service.untilDone(1);
    expect(unguarded(service.pids, next)).toEqual([]);
    expect(findingsOf(hosts, next)).toEqual([]);
    expect(findingsOf(service.pids, pin)).toEqual([]);
    service.tell('close');
    await service.untilDone(2);
    for (const each of [pin, next]) expect(findingsOf([own], each)).toEqual([]);
  });

  test('the PINs of an unfinished change, read from a token, are in locked memory only', async () => {
    const token = await cluster.open({ ...configuration(), pin: { file: write('pin', pin) } });
    cluster.fault('hsm2', 'C_Initialize return=0x30');
    process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
    await untilState(token, 'hsm2', 'down');
    await token.changePin({ file: write('next', next) }, { pending: true });
    await token.close();
    const service = await hold({ file: write('next', next) });
    const [own] = service.pids;
    // The service knows the former PIN from the record on hsm1 alone.
    await until(
      () => findingsOf([own], pin).length > 0,
      () => 'the service has read both PINs',
    );
    // Bytes on their way between the processes are wiped at once.
    await until(
      () => unguarded(service.pids, pin, next).length === 0,
      () => `PINs are in locked memory only, but: ${JSON.stringify(unguarded(service.pids, pin, next))}`,
    );
  });
});
