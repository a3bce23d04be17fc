import { describe, expect, test } from '@jest/globals';
import { addon } from '../../src/runtime/addon.js';

describe('the addon', () => {
  test('refuses what is no message, no secret and no channel', () => {
    const channel = new addon.Channel();
    expect(() => channel.send('text' as never, 4)).toThrow('send(message: Uint8Array');
    expect(() => channel.send(Buffer.alloc(4), 5)).toThrow('length is outside of the message');
    expect(() => channel.send(Buffer.alloc(4), 0)).toThrow('length is outside of the message');
    expect(() => channel.send(Buffer.alloc(4), 4, {} as never)).toThrow('the value is no Secret');
    expect(() => addon.waitReadable([{} as never], 0, 0)).toThrow();
    expect(() => new addon.Secret('pin' as never)).toThrow('new Secret(bytes: Uint8Array)');
    channel.close();
    expect(channel.send(Buffer.alloc(4), 4)).toBe(2);
    expect(channel.receive()).toEqual([]);
    channel.close();
  });

  test('a wait ends in time when nothing comes', () => {
    const channel = new addon.Channel();
    expect(addon.waitReadable([channel], 1, 20)).toBe(false);
    expect(addon.waitReadable([], 0, 0)).toBe(false);
    channel.close();
  });

  test('an other end that is gone is told', () => {
    const channel = new addon.Channel();
    channel.closeHostEnds();
    expect(channel.send(Buffer.alloc(4), 4)).toBe(2);
    expect(channel.receive()).toEqual([]);
    expect(channel.ended).toBe(true);
    channel.close();
  });

  test('a full socket refuses, and nothing is lost', () => {
    const channel = new addon.Channel();
    let sent = 0;
    while (channel.send(Buffer.alloc(4096), 4096) === 0) sent += 1;
    expect(sent).toBeGreaterThan(16);
    expect(channel.send(Buffer.alloc(4096), 4096)).toBe(1);
    channel.close();
  });

  test('a secret keeps its bytes until it is wiped', () => {
    const bytes = Buffer.from('123456');
    const secret = new addon.Secret(bytes);
    bytes.fill(0);
    expect(secret.length).toBe(6);
    secret.wipe();
    expect(secret.length).toBe(0);
    secret.wipe();
  });

  test('lanes are empty before anything has begun', () => {
    const channel = new addon.Channel();
    expect(channel.lanes()).toEqual([]);
    channel.close();
  });

  test('a process that has not ended is not told to have', () => {
    expect(addon.processEnd(process.pid)).toBeNull();
  });
});
