import { type JobReply, readReply } from '../../spec/job.js';
import type { NativeChannel } from './addon.js';

/** Length of the size field before each packet (bytes). */
const SIZE = 4;

/** Taker of a reply; returns false for a reply that answers none of the jobs that are out. */
type Taker = (reply: JobReply) => boolean;

/** Reads a reply; undefined if its bytes are none (Rule 18). */
function replyIn(bytes: Buffer, at?: number, end?: number): JobReply | undefined {
  try {
    return readReply(bytes, at, end);
  } catch {
    return undefined;
  }
}

/**
 * Hands over the replies that have arrived; their bytes are copies. Returns whether there were any, or `impossible` if
 * the host has sent what no host sends.
 */
export function receiveAll(channel: NativeChannel, take: Taker): 'nothing' | 'something' | 'impossible' {
  const { inbox } = channel;
  let hasMoved = false;
  for (;;) {
    const length = channel.receive();
    for (let at = 0; at < length; ) {
      const size = inbox.readUInt32LE(at);
      at += SIZE;
      // Copies from the inbox, which the next receive overwrites.
      const large = size === 0 ? channel.takeLarge() : undefined;
      if (size === 0 && large === undefined) return 'impossible';
      const reply = large === undefined ? replyIn(inbox, at, at + size) : replyIn(large);
      if (reply === undefined || !take(reply)) return 'impossible';
      at += size;
    }
    if (channel.broken) return 'impossible';
    hasMoved ||= length > 0;
    // If the inbox was less than half full, no packets are left in the channel.
    if (length < inbox.length / 2) return hasMoved ? 'something' : 'nothing';
  }
}
