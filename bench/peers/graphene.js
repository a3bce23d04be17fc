// graphene-pk11 on pkcs11js, on one token, in this process.
import graphene from 'graphene-pk11';
import { callSyncFor } from '../lib/contest.js';
import { classOf, mechanismOf } from '../lib/operations.js';

/** Opens a session. `openPkcs11js` has initialized the same module and logged in before. */
export function openGraphene(module) {
  const library = graphene.Module.load(module);
  const slot = library.getSlots(0);
  return slot.open(graphene.SessionFlag.SERIAL_SESSION | graphene.SessionFlag.RW_SESSION);
}

/** Returns a mechanism in graphene-pk11's form. */
function mechanismIn({ name, ...operation }) {
  const { mechanism, parameter } = mechanismOf(operation);
  if (parameter === undefined) return mechanism;
  if (!name.includes('GCM')) return { name: mechanism, params: parameter };
  const { iv, tagBits } = parameter;
  return { name: mechanism, params: new graphene.AesGcmParams(iv, undefined, tagBits) };
}

/** Contestant that calls graphene-pk11 synchronously. */
export function grapheneContestant(session, operation) {
  return { name: 'graphene-pk11', round: async (seconds) => callSyncFor(seconds, callOf(session, operation)) };
}

function callOf(session, operation) {
  const { verb, data, size } = operation;
  if (verb === 'random') return () => session.generateRandom(size);
  const mechanism = mechanismIn(operation);
  if (verb === 'digest') return () => session.createDigest(mechanism).once(data);
  const key = session.find({ label: operation.key, class: classOf(operation) }).items(0);
  if (verb === 'sign') return () => session.createSign(mechanism, key).once(data);
  return () => session.createCipher(mechanism, key).once(data, Buffer.alloc(size));
}
