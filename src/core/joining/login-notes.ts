import type { TokenInfo } from '../../spec/calls.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { PinNote } from '../records/record.js';
import { readNotes } from './pin-record.js';

/** Interval between looks at a joining member until its notes can be read (ms). */
const LOOK_AGAIN = 10;

/** Reads the PIN notes before the first login: if a change was interrupted, they tell who is to try the PIN. */
export function* heedNotes({ logins, port, policy }: Group, connection: Connection, deadline: number): Task<void> {
  if (logins.isProven) return;
  const notes = yield* readNotes(connection, Math.min(deadline, port.now() + policy.hangAfter));
  for (const note of notes ?? []) logins.heed(note);
}

/** Returns true if PIN notes, on this or another token, say that this token may have another PIN than the others. */
export function* isBeingChanged(
  group: Group,
  { name }: Member,
  connection: Connection,
  token: TokenInfo,
  deadline: number,
): Task<boolean> {
  const { port, policy } = group;
  const until = Math.min(deadline, port.now() + policy.hangAfter);
  const concernsToken = ({ state, participants, missed }: PinNote): boolean =>
    missed.includes(token.serialNumber) || (state === 'changing' && participants.includes(token.serialNumber));
  if ((yield* readNotes(connection, until))?.some(concernsToken) === true) return true;
  for (const other of group.members) {
    if (other.name === name) continue;
    while (other.state.name === 'joining' && other.connection?.isAttached !== true && port.now() < until)
      yield* race([group.changed, connection.ended], Math.min(until, port.now() + LOOK_AGAIN));
    if (other.connection?.isAttached !== true || other.connection.end !== undefined) continue;
    if ((yield* readNotes(other.connection, until))?.some(concernsToken) === true) return true;
  }
  return false;
}
