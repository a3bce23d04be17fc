import { type JobReply, readReply } from '../../spec/job.js';
import type { NativeChannel } from './addon.js';

/** Length of the size field before each packet (bytes). */
const SIZE = 4;

/** Hands over the replies that have arrived, and returns true if there were any. Their bytes are copies. */
export function receiveAll(channel: NativeChannel, replied: (reply: JobReply) => void): boolean {
  const { inbox } = channel;
  let hasMoved = false;
  for (;;) {
    const length = channel.receive();
    for (let at = 0; at < length; ) {
      const size = inbox.readUInt32LE(at);
      at += SIZE;
      // Copies from the inbox, which the next receive overwrites.
      if (size === 0) replied(readReply(channel.takeLarge()));
      else replied(readReply(inbox, at, at + size));
      at += size;
    }
    hasMoved ||= length > 0;
    // If the inbox was less than half full, no packets are left in the channel.
    if (length < inbox.length / 2) return hasMoved;
  }
}
