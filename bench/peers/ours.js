// Group as a contestant, through the promise API and through pkcs11js's API.
import { PKCS11 } from '../../dist/index.js';
import { hostsOf } from '../lib/bed.js';
import { callFor } from '../lib/contest.js';
import { classOf, mechanismOf } from '../lib/operations.js';
import { openSessions } from './pkcs11js.js';

/** Returns a function that makes one asynchronous call on a virtual token. */
export async function callOf(token, operation) {
  const { verb, data, size } = operation;
  if (verb === 'random') return () => token.random(size);
  const mechanism = mechanismOf(operation);
  if (verb === 'digest') return () => token.digest(mechanism, data);
  const key = await token.get({ label: operation.key, class: classOf(operation) });
  return verb === 'sign' ? () => token.sign(mechanism, key, data) : () => token.encrypt(mechanism, key, data);
}

/** Contestant with `count` calls in flight. */
export async function inFlight(token, operation, count) {
  const call = await callOf(token, operation);
  const hosts = hostsOf(token);
  return { name: `ours, ${count} in flight`, round: (seconds) => callFor(seconds, count, call, hosts) };
}

/** Opens pkcs11js's API on the group of a configuration file. */
export function openFace(file, pin, count = 1) {
  return openSessions(new PKCS11(), file, pin, count);
}
