import { expect, test } from '@jest/globals';
import type { HostLink, Port } from '../../../src/core/base/port.js';
import { FOREVER } from '../../../src/core/base/task.js';
import { Connection } from '../../../src/core/group/connection.js';
import { Scheduler } from '../../../src/runtime/scheduling/scheduler.js';
import type { Job, JobReply } from '../../../src/spec/job.js';

const job: Job = { steps: [] };
const doneWith = (id: number): JobReply => ({ id, status: 'done', results: [] });

/** Makes a connection whose host takes one job at a time; `sent` has the jobs' ids in order. */
function connect(): { connection: Connection; sent: number[] } {
  const now = 1000;
  const scheduler = new Scheduler(() => now);
  const port = { now: () => now, alarm: () => scheduler.alarm() } as unknown as Port;
  const connection = new Connection(port, {
    timeoutOf: () => 100,
    beginBy: ({ deadline }) => deadline,
    took: () => undefined,
  });
  const sent: number[] = [];
  connection.attachHost({
    send: (id: number) => {
      sent.push(id);
      return true;
    },
    begun: () => [],
  } as unknown as HostLink);
  connection.window = 1;
  return { connection, sent };
}

test('a second reply to an answered job does not complete another job', () => {
  const { connection, sent } = connect();
  const first = connection.submit(job, 'first', FOREVER);
  connection.replied(doneWith(first.id));
  const second = connection.submit(job, 'second', FOREVER);
  expect(connection.replied(doneWith(first.id))).toBe(false);
  expect(second.completed).toBe(false);
  connection.replied(doneWith(second.id));
  expect([second.completed, new Set(sent).size]).toEqual([true, 2]);
});

test('[Rule 14] before the login only jobs without a session run: what is not seen then may be there', () => {
  const { connection, sent } = connect();
  const outcomeOf = (run: Job): unknown => connection.run(run, 'find', FOREVER).next().value;
  expect(outcomeOf(job)).toEqual({ kind: 'withdrawn' });
  expect(sent).toHaveLength(0);
  outcomeOf({ ...job, sessionless: true });
  expect(sent).toHaveLength(1);
  connection.hasLogin = true;
  connection.window = 2;
  outcomeOf(job);
  expect(sent).toHaveLength(2);
});
