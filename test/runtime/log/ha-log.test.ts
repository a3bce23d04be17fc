import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs, {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { GroupEvent } from '../../../src/core/base/event.js';
import type { LogConfig } from '../../../src/core/configuration/configuration.js';
import { HaLog } from '../../../src/runtime/log/ha-log.js';
import { type Folder, makeFolder } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

const program = fileURLToPath(new URL('../../support/programs/log-writer.js', import.meta.url));
const NOON = Date.UTC(2030, 0, 1, 12);

let folder: Folder;
let config: LogConfig;
const logs: HaLog[] = [];
beforeEach(() => {
  folder = makeFolder('log');
  config = { file: join(folder.path, 'ha.jsonl'), maxSize: 1024 ** 2, keep: 5 };
});
afterEach(() => {
  jest.restoreAllMocks();
  for (const log of logs.splice(0)) log.close();
  folder.remove();
});

function open(changes: Partial<LogConfig> = {}): HaLog {
  const log = new HaLog({ ...config, ...changes }, 'test group');
  logs.push(log);
  return log;
}

function moved(reason: string | number): GroupEvent {
  return { type: 'member', member: 'hsm1', from: 'active', to: 'down', reason: String(reason) };
}

interface Line {
  readonly group: string;
  readonly type: string;
  readonly reason: string;
}

/** Parses the lines of a file; expects that the last line is whole. */
function linesOf(path: string): Line[] {
  const text = readFileSync(path, 'utf8');
  expect(text.endsWith('\n')).toBe(true);
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

function reasonsOf(path: string): string[] {
  return linesOf(path).map(({ reason }) => reason);
}

/** Returns the log's files, the oldest first. */
function filesOf(): string[] {
  const numberOf = (name: string): number => Number(/\.(\d+)$/u.exec(name)?.[1] ?? 0);
  return readdirSync(folder.path)
    .sort((a, b) => numberOf(b) - numberOf(a))
    .map((name) => join(folder.path, name));
}

/** Runs writers in processes of their own, which begin together; their names are numbers. */
async function runWriters(changes: Partial<LogConfig>, count: number, ends: readonly string[]): Promise<void> {
  const children = ends.map((end, index) =>
    spawn(process.execPath, [program, JSON.stringify({ ...config, ...changes }), String(index), String(count), end], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, NODE_NO_WARNINGS: '1' },
      timeout: 20_000,
    }),
  );
  const ended = children.map((child) => once(child, 'exit'));
  await Promise.all(children.map((child) => once(child.stdout, 'data')));
  for (const child of children) child.stdin.write('go\n');
  for (const [code] of await Promise.all(ended)) expect(code).toBe(0);
}

describe('the HA log', () => {
  test('has a line for each event, with time, group and process, and no output of libraries', () => {
    const log = open();
    log.write(moved('the host was ended by SIGKILL'), NOON);
    log.write({ type: 'output', member: 'hsm1', text: 'PIN=1234' }, NOON);
    log.write({ type: 'sync', member: 'hsm1', what: 'swept', objects: [] }, NOON + 1);
    expect(existsSync(config.file)).toBe(false);
    log.close();
    const [start, next] = ['2030-01-01T12:00:00.000Z', '2030-01-01T12:00:00.001Z'];
    const common = { group: 'test group', pid: process.pid };
    expect(linesOf(config.file)).toEqual([
      { time: start, ...common, ...moved('the host was ended by SIGKILL') },
      { time: next, ...common, type: 'sync', member: 'hsm1', what: 'swept', objects: [] },
    ]);
    expect(statSync(config.file).mode & 0o777).toBe(0o600);
  });

  test('does not exist before the first event, and takes no event after close', () => {
    const log = open();
    log.close();
    log.write(moved('late'), NOON);
    log.close();
    expect(filesOf()).toEqual([]);
  });

  test('is continued in an existing file', () => {
    for (const reason of ['first', 'second']) {
      const log = open();
      log.write(moved(reason), NOON);
      log.close();
    }
    expect(reasonsOf(config.file)).toEqual(['first', 'second']);
  });

  test('is written in the event loop, and at once after many events', async () => {
    const log = open();
    for (let number = 0; number < 100; number += 1) log.write(moved(number), NOON);
    expect(linesOf(config.file)).toHaveLength(100);
    log.write(moved('one more'), NOON);
    await until(
      () => linesOf(config.file).length === 101,
      () => 'the last line is written',
    );
  });

  test('has a listener for the end of the process only while it is open', () => {
    const before = process.listenerCount('exit');
    const both = [open(), open()];
    for (const log of both) log.write(moved(''), NOON);
    expect(process.listenerCount('exit')).toBe(before + 1);
    for (const log of both) log.close();
    expect(process.listenerCount('exit')).toBe(before);
  });
});

describe('a full log', () => {
  // Sets the size to two lines of about 130 bytes.
  const small = { maxSize: 300 };

  test.each([
    [3, [['1', '2'], ['3', '4'], ['5', '6'], ['7']]],
    [1, [['5', '6'], ['7']]],
    [0, [['7']]],
  ])('is renamed, and %i old files are kept', (keep, expected) => {
    const log = open({ ...small, keep });
    for (const number of [1, 2, 3, 4, 5, 6, 7]) log.write(moved(number), NOON);
    log.close();
    expect(filesOf().map(reasonsOf)).toEqual(expected);
    for (const file of filesOf()) {
      expect(statSync(file).size).toBeLessThanOrEqual(small.maxSize);
      expect(statSync(file).mode & 0o777).toBe(0o600);
    }
  });

  test('takes a line longer than maxSize into a file of its own', () => {
    const log = open({ maxSize: 10 });
    for (const reason of ['a', 'b']) log.write(moved(reason), NOON);
    log.close();
    expect(filesOf().map(reasonsOf)).toEqual([['a'], ['b']]);
  });

  test('that another writer has renamed is not renamed again', () => {
    const log = open();
    log.write(moved('before'), NOON);
    log.flush();
    renameSync(config.file, `${config.file}.1`);
    const other = open();
    other.write(moved("another's"), NOON);
    other.close();
    log.write(moved('after'), NOON);
    log.close();
    expect(filesOf().map(reasonsOf)).toEqual([['before'], ["another's", 'after']]);
  });

  test('takes lines while another writer has the lock; an abandoned lock is ignored', () => {
    const lock = `${config.file}.lock`;
    writeFileSync(lock, '');
    const log = open(small);
    for (const number of [1, 2, 3]) log.write(moved(number), NOON);
    log.flush();
    expect(reasonsOf(config.file)).toEqual(['1', '2', '3']);
    utimesSync(lock, new Date(0), new Date(0));
    log.write(moved(4), NOON);
    log.close();
    expect(filesOf().map(reasonsOf)).toEqual([['1', '2', '3'], ['4']]);
  });
});

describe('several writers of one log', () => {
  const ends = ['close', 'exit', 'return'];
  const count = 1500;
  const numbers = Array.from({ length: count }, (_, number) => String(number));

  test('lose and mix no lines, in processes that rotate at once', async () => {
    await runWriters({ maxSize: 20_000, keep: 100 }, count, ends);
    const files = filesOf();
    expect(files.length).toBeGreaterThan(10);
    const lines = files.flatMap(linesOf);
    for (const name of ends.keys()) {
      const own = lines.filter(({ group }) => group === String(name));
      expect(own.map(({ reason }) => reason)).toEqual(numbers);
    }
    // Expects full files only, since each file is renamed once.
    for (const file of files.slice(0, -1)) expect(statSync(file).size).toBeGreaterThan(19_000);
    expect(files).not.toContain(`${config.file}.lock`);
  });

  test('lose and mix no lines, in one process', () => {
    const both = [open({ maxSize: 1000, keep: 100 }), open({ maxSize: 1000, keep: 100 })];
    for (const number of Array(200).keys()) {
      for (const [index, log] of both.entries()) log.write(moved(`${index} ${number}`), NOON);
    }
    for (const log of both) log.close();
    const reasons = filesOf().flatMap(reasonsOf);
    expect(reasons).toHaveLength(400);
    expect(new Set(reasons).size).toBe(400);
  });
});

describe('a log that cannot be written', () => {
  test('causes one warning and no failed call, and is written when it can be', () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const file = join(folder.path, 'later', 'ha.jsonl');
    const log = open({ file });
    for (const reason of ['first', 'second']) {
      log.write(moved(reason), NOON);
      log.flush();
    }
    expect(warned).toHaveBeenCalledTimes(1);
    expect(warned.mock.calls[0]?.[0]).toContain(`log.file: ${file} cannot be written (ENOENT)`);
    mkdirSync(dirname(file));
    log.write(moved('third'), NOON);
    log.close();
    expect(reasonsOf(file)).toEqual(['first', 'second', 'third']);
    expect(warned).toHaveBeenCalledTimes(1);
  });

  test('does not keep the process alive', async () => {
    await runWriters({ file: join(folder.path, 'nowhere', 'ha.jsonl') }, 10, ['return']);
    expect(filesOf()).toEqual([]);
  });

  test('keeps the last thousand events, and a line with the number of lost ones', () => {
    jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const file = join(folder.path, 'later', 'ha.jsonl');
    const log = open({ file });
    for (let number = 0; number < 1205; number += 1) log.write(moved(number), NOON);
    mkdirSync(dirname(file));
    log.close();
    const [gap, ...rest] = linesOf(file);
    expect(gap).toMatchObject({ type: 'lost', events: 205 });
    expect(rest.map(({ reason }) => reason)).toEqual(Array.from({ length: 1000 }, (_, n) => String(n + 205)));
  });

  test('has an incomplete line again, whole and on a line of its own', () => {
    jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const log = open();
    // Writes a part only, as write(2) does on a disk that becomes full.
    const { writeSync } = fs;
    const cutShort = (descriptor: number, data: unknown): number =>
      writeSync(descriptor, (data as Buffer).subarray(0, 20));
    jest.spyOn(fs, 'writeSync').mockImplementationOnce(cutShort as typeof writeSync);
    log.write(moved('first'), NOON);
    log.flush();
    log.write(moved('second'), NOON);
    log.close();
    const [part, ...lines] = readFileSync(config.file, 'utf8').trimEnd().split('\n');
    expect(part).toHaveLength(20);
    expect(lines.map((line) => JSON.parse(line).reason)).toEqual(['first', 'second']);
  });

  test('is continued in its file if it can be written but not renamed', () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    mkdirSync(`${config.file}.1`);
    writeFileSync(join(`${config.file}.1`, 'in the way'), '');
    const log = open({ maxSize: 1, keep: 1 });
    for (const number of [1, 2, 3]) log.write(moved(number), NOON);
    log.close();
    expect(reasonsOf(config.file)).toEqual(['1', '2', '3']);
    expect(warned).toHaveBeenCalledTimes(1);
    expect(warned.mock.calls[0]?.[0]).toContain('cannot be rotated (EISDIR)');
    expect(existsSync(`${config.file}.lock`)).toBe(false);
  });
});
