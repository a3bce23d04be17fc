import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';
import { calls } from '../../src/spec/call-codecs.js';
import { endOf, readReply, resultOf, step, writeJob } from '../../src/spec/job.js';
import { Writer } from '../../src/spec/wire.js';

describe('the table of calls', () => {
  test('has the same numbers as the host', () => {
    const text = readFileSync(fileURLToPath(new URL('../../native/host/calls/calls.def', import.meta.url)), 'utf8');
    const host = new Map(
      [...text.matchAll(/^CALL\((\d+), (\w+)\)$/gmu)].map(([, number, name]) => [name, Number(number)]),
    );
    for (const [name, { number }] of Object.entries(calls)) expect([name, host.get(name)]).toEqual([name, number]);
  });
});

describe('a job', () => {
  test('has its id, deadline in ns, flags and steps in its head', () => {
    const writer = new Writer();
    writeJob(writer, 7, 1.5, {
      steps: [step('C_GetSlotList', true)],
      sessionless: true,
      onNewSession: true,
      exclusive: true,
    });
    expect(writer.bytes.subarray(0, writer.length).toString('hex')).toBe(
      ['0700000000000000', '60e3160000000000', '07000000', '01000000', '0c000000', '01'].join(''),
    );
  });

  test('is encoded whole if it outgrows its buffer', () => {
    const writer = new Writer();
    const data = Buffer.alloc(100_000, 5);
    writeJob(writer, 1, Number.POSITIVE_INFINITY, { steps: [step('C_Digest', data)] });
    expect(writer.bytes.subarray(writer.length - data.length, writer.length).equals(data)).toBe(true);
    expect(writer.bytes.readBigUInt64LE(8)).toBe(0n);
  });
});

describe('a reply', () => {
  const packetOf = (...results: readonly (readonly [number, number, Buffer])[]): Buffer => {
    const writer = new Writer();
    writer.u64(9);
    writer.u32(0);
    writer.u32(results.length);
    for (const [call, code, value] of results) {
      writer.u32(call);
      writer.u64(code);
      writer.raw(value);
    }
    return Buffer.from(writer.bytes.subarray(0, writer.length));
  };

  test('has the results of its steps, and its status', () => {
    const reply = readReply(packetOf([60, 0, Buffer.alloc(0)], [61, 0x30, Buffer.alloc(0)]));
    expect(reply).toMatchObject({ id: 9, status: 'done' });
    expect(endOf(reply)).toMatchObject({ call: 'C_Sign', code: 0x30 });
    expect(() => resultOf(reply, 1, 'C_Sign')).toThrow(RangeError);
    expect(() => resultOf(reply, 0, 'C_Sign')).toThrow(RangeError);
  });

  test('that is cut short is refused', () => {
    const packet = packetOf([61, 0, Buffer.from('04000000aabbccdd', 'hex')]);
    expect(resultOf(readReply(packet), 0, 'C_Sign')).toEqual(Buffer.from('aabbccdd', 'hex'));
    for (let length = 0; length < packet.length; length += 1)
      expect(() => readReply(packet.subarray(0, length))).toThrow();
  });
});
