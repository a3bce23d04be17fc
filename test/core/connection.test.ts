import { expect, test } from '@jest/globals';
import { Connection } from '../../src/core/connection.js';
import { Effort } from '../../src/core/outcome.js';
import type { HostLink, Port } from '../../src/core/port.js';
import { FOREVER } from '../../src/core/task.js';
import { Scheduler } from '../../src/runtime/scheduler.js';
import type { Job, JobReply } from '../../src/spec/job.js';

const job: Job = { steps: [] };
const doneWith = (id: number): JobReply => ({ id, status: 'done', results: [] });

/** A connection whose host takes one job at a time; `sent` has the ids in the order in which they were sent. */
function connect(): { connection: Connection; sent: number[]; pass: (ms: number) => void } {
  let now = 1000;
  const scheduler = new Scheduler(() => now);
  const port = { now: () => now, alarm: () => scheduler.alarm() } as unknown as Port;
  const connection = new Connection(port, { timeoutOf: () => 100, patienceFor: () => 100, took: () => undefined });
  const sent: number[] = [];
  connection.attachHost({
    send: (id: number) => {
      sent.push(id);
      return true;
    },
    begun: () => [],
  } as unknown as HostLink);
  connection.window = 1;
  return {
    connection,
    sent,
    pass: (ms) => {
      now += ms;
    },
  };
}

function effortSince(since: number): Effort {
  const effort = new Effort();
  effort.since = since;
  return effort;
}

test('who has waited longest is sent first: a call that failed elsewhere does not wait anew', () => {
  const { connection, sent, pass } = connect();
  const first = connection.submit(job, 'first', FOREVER);
  pass(10);
  const young = connection.submit(job, 'young', FOREVER, effortSince(1010));
  const inner = connection.submit(job, 'inner', FOREVER);
  pass(10);
  const old = connection.submit(job, 'old', FOREVER, effortSince(1005));
  const last = connection.submit(job, 'last', FOREVER, effortSince(1020));
  for (let done = 0; done < sent.length; done += 1) connection.replied(doneWith(sent[done] ?? 0));
  expect(sent).toEqual([first, old, young, inner, last].map(({ id }) => id));
  expect([first, old, young, inner, last].every(({ outcome }) => outcome?.kind === 'reply')).toBe(true);
});

test('a reply to a job that is not out any more is nobody else’s', () => {
  const { connection, sent } = connect();
  const first = connection.submit(job, 'first', FOREVER);
  connection.replied(doneWith(first.id));
  const second = connection.submit(job, 'second', FOREVER);
  connection.replied(doneWith(first.id));
  expect(second.settled).toBe(false);
  connection.replied(doneWith(second.id));
  expect([second.settled, new Set(sent).size]).toEqual([true, 2]);
});
