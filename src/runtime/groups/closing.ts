import type { Task } from '../../core/base/task.js';
import { race, sleepUntil } from '../../core/base/waiting.js';
import type { Policy } from '../../core/configuration/configuration.js';
import type { Group } from '../../core/group/group.js';
import { type Job, step } from '../../spec/job.js';
import type { HostProcess } from '../hosts/host.js';
import { monotonicNow } from '../scheduling/clock.js';
import type { Driver } from '../scheduling/driver.js';

/** Time that a closing group gives its hosts to finalize their libraries (ms). */
const FINALIZE_WITHIN = 500;

/** Time that hosts get to leave before they are killed (ms). */
const LEAVE_WITHIN = 100;
/** Interval between looks at hosts that were told to leave (ms). */
const LOOK_AGAIN = 2;

/** Job that finalizes a library. Runs alone: an abandoned call may still run in the library. */
const FINALIZE: Job = { steps: [step('C_Finalize')], sessionless: true, exclusive: true };

/** Finalizes the libraries, so that they can end their HSM sessions; does not wait for a library that hangs. */
export function* finalizeLibraries({ members }: Group): Task<void> {
  const until = monotonicNow() + FINALIZE_WITHIN;
  const tickets = members.flatMap(({ connection }) =>
    connection === undefined || connection.end !== undefined ? [] : [connection.submit(FINALIZE, 'finalize', until)],
  );
  for (const ticket of tickets) if (!ticket.completed && monotonicNow() < until) yield* race([ticket], until);
}

/** Waits for hosts that were told to leave; waits longer only for a host in the middle of a write. */
export function* awaitHosts({ hosts }: Driver, { writeHangAfter }: Policy): Task<void> {
  const until = monotonicNow() + LEAVE_WITHIN;
  const isWriting = (host: HostProcess): boolean =>
    host.begun().some(({ longWrite, since }) => longWrite && monotonicNow() - since < writeHangAfter);
  while ([...hosts].some((host) => monotonicNow() < until || isWriting(host)))
    yield* sleepUntil(monotonicNow() + LOOK_AGAIN);
}
