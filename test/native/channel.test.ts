import { describe, expect, test } from '@jest/globals';
import { addon } from '../../src/runtime/hosts/addon.js';

describe('the addon', () => {
  test('refuses arguments that are no message, no secret or no channel', () => {
    const channel = new addon.Channel();
    expect(() => channel.send('text' as never, 4)).toThrow('send(message: Uint8Array');
    expect(() => channel.send(Buffer.alloc(4), 5)).toThrow('length is outside of the message');
    expect(() => channel.send(Buffer.alloc(4), 0)).toThrow('length is outside of the message');
    expect(() => channel.send(Buffer.alloc(4), 4, {} as never)).toThrow('the value is no Secret');
    expect(() => addon.waitReadable([{} as never], 0, 0)).toThrow();
    expect(() => new addon.Secret('pin' as never)).toThrow('new Secret(bytes: Uint8Array)');
    channel.close();
    expect(channel.send(Buffer.alloc(4), 4)).toBe(2);
    expect(channel.receive()).toBe(0);
    channel.close();
  });

  test('ends a wait at its time if nothing comes', () => {
    const channel = new addon.Channel();
    expect(addon.waitReadable([channel], 1, 20)).toBe(false);
    expect(addon.waitReadable([], 0, 0)).toBe(false);
    channel.close();
  });

  test('reports that the other end has closed', () => {
    const channel = new addon.Channel();
    channel.closeHostEnds();
    expect(channel.send(Buffer.alloc(100_000), 100_000)).toBe(2);
    expect(channel.receive()).toBe(0);
    expect(channel.ended).toBe(true);
    channel.close();
  });

  test('refuses to send to a full channel, and loses nothing', () => {
    const channel = new addon.Channel();
    let sent = 0;
    while (channel.send(Buffer.alloc(4096), 4096) === 0) sent += 1;
    expect(sent).toBeGreaterThan(8);
    expect(channel.send(Buffer.alloc(4096), 4096)).toBe(1);
    channel.close();
  });

  test('keeps the bytes of a secret until it is wiped', () => {
    const bytes = Buffer.from('123456');
    const secret = new addon.Secret(bytes);
    bytes.fill(0);
    expect(secret.length).toBe(6);
    secret.wipe();
    expect(secret.length).toBe(0);
    secret.wipe();
  });

  test('joins two secrets to one that outlives them', () => {
    const [first, second, both] = ['1234', '56', '123456'].map((text) => new addon.Secret(Buffer.from(text)));
    if (first === undefined || second === undefined || both === undefined) throw new Error('no secrets');
    const joined = addon.Secret.joined(first, second);
    first.wipe();
    second.wipe();
    expect(joined.length).toBe(6);
    expect(joined.equals(both)).toBe(true);
    joined.wipe();
    expect([joined.length, both.length]).toEqual([0, 6]);
    const large = new addon.Secret(Buffer.alloc(5000, 7));
    expect(addon.Secret.joined(large, large).equals(new addon.Secret(Buffer.alloc(10_000, 7)))).toBe(true);
  });

  test('compares secrets by all of their bytes', () => {
    const secretOf = (text: string) => new addon.Secret(Buffer.from(text));
    const secret = secretOf('123456');
    expect(secret.equals(secret)).toBe(true);
    expect(secret.equals(secretOf('123456'))).toBe(true);
    for (const other of ['023456', '123457', '12345', '1234567', '', '654321'])
      expect(secret.equals(secretOf(other))).toBe(false);
    expect(secretOf('').equals(addon.Secret.joined(secretOf(''), secretOf('')))).toBe(true);
  });

  test('refuses to join or compare values that are no secret, or wiped', () => {
    const secret = new addon.Secret(Buffer.from('123456'));
    const wiped = new addon.Secret(Buffer.alloc(0));
    wiped.wipe();
    for (const [other, problem] of [
      [Buffer.from('123456'), 'the value is no Secret'],
      ['123456', 'the value is no Secret'],
      [undefined, 'the value is no Secret'],
      [wiped, 'the secret has been wiped'],
    ] as const) {
      expect(() => secret.equals(other as never)).toThrow(problem);
      expect(() => addon.Secret.joined(secret, other as never)).toThrow(problem);
      expect(() => addon.Secret.joined(other as never, secret)).toThrow(problem);
    }
    expect(() => wiped.equals(secret)).toThrow('the secret has been wiped');
  });

  test('reports no lanes before a job has begun', () => {
    const channel = new addon.Channel();
    expect(channel.lanes()).toEqual([]);
    channel.close();
  });

  test('does not report the end of a process that runs', () => {
    expect(addon.processEnd(process.pid, 1)).toBeNull();
  });
});
