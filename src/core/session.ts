import { ck } from '../spec/constants.js';
import { type Job, step } from '../spec/job.js';
import type { Connection } from './connection.js';
import type { Group } from './group.js';
import { type Failure, failureOf } from './outcome.js';
import { FOREVER, type Task } from './task.js';

const CKU_USER = ck('CKU_USER');
const alreadyLoggedIn = ck('CKR_USER_ALREADY_LOGGED_IN');

/** The login on a connection's anchor session. Rule 6 is kept by whoever calls this. */
export function loginJob(pin: NonNullable<Group['pin']>): Job {
  return { steps: [step('C_Login', CKU_USER, pin.length)], sessionless: true, secret: pin };
}

/**
 * Makes a connection's anchor session and login new, once for all calls that found theirs lost. A login that
 * had been lost voids the real handles, so they are forgotten (Rule 13).
 */
export function* renewLogin(group: Group, connection: Connection): Task<Failure | undefined> {
  connection.renewing ??= group.port.start(renew(group, connection));
  const { renewing } = connection;
  if (!renewing.settled) yield { signals: [renewing], until: FOREVER };
  if (connection.renewing === renewing) connection.renewing = undefined;
  return renewing.ended?.ok === true ? renewing.ended.value : { kind: 'withdrawn' };
}

function* renew(group: Group, connection: Connection): Task<Failure | undefined> {
  const attached = yield* connection.run(
    { steps: [step('X_Attach', connection.slot, connection.lanes)], sessionless: true },
    'attach',
    FOREVER,
  );
  const attachFailure = failureOf(attached);
  if (attachFailure !== undefined) return attachFailure;
  if (group.pin !== undefined) {
    const login = yield* connection.run(loginJob(group.pin), 'login', FOREVER);
    const failure = failureOf(login);
    const stillIn = failure?.kind === 'code' && failure.code === alreadyLoggedIn;
    if (failure !== undefined && !stillIn) return failure;
    if (!stillIn) connection.replicas.clear();
  }
  connection.renewedAt = group.port.now();
  return undefined;
}
