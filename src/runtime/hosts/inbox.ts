import { type JobReply, readReply } from '../../spec/job.js';
import type { NativeChannel } from './addon.js';

const SIZE = 4;

/** Hands over the replies that have come; true if there were any. What they hold is theirs to keep. */
export function receiveAll(channel: NativeChannel, replied: (reply: JobReply) => void): boolean {
  const { inbox } = channel;
  let hasMoved = false;
  for (;;) {
    const length = channel.receive();
    for (let at = 0; at < length; ) {
      const size = inbox.readUInt32LE(at);
      at += SIZE;
      // The inbox is written to again: what is read from it is copied.
      if (size === 0) replied(readReply(channel.takeLarge()));
      else replied(readReply(inbox, at, at + size));
      at += size;
    }
    hasMoved ||= length > 0;
    // More is there only where the inbox was full.
    if (length < inbox.length / 2) return hasMoved;
  }
}
