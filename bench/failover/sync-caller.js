// Group driven by synchronous calls, as the pkcs11js face drives it, with the part of a token that the bench uses.
import { EventEmitter } from 'node:events';
import { runCall } from '../../dist/core/call/call.js';
import { findObjects } from '../../dist/core/call/find.js';
import { sign } from '../../dist/core/jobs/operation.js';
import { statusOf } from '../../dist/core/status/status.js';
import { OpenGroup, readConfiguration } from '../../dist/runtime/groups/open-group.js';
import { encodeMechanism } from '../../dist/spec/mechanism.js';
import { encodeTemplate } from '../../dist/spec/template.js';
import { classOf, mechanismOf } from '../lib/operations.js';

/** Opens a group; returns the same shape as `openDriver` in main.js. */
export async function openSyncCaller(bed, policy, operation) {
  const open = new OpenGroup(readConfiguration(bed.configuration(policy)));
  bed.closeLater({ close: () => open.close() });
  const { group } = open;
  const deadline = () => open.now() + group.policy.deadline;
  await open.awaitService(deadline());
  const template = encodeTemplate('template', { label: operation.key, class: classOf(operation) });
  const [key] = open.runSync(findObjects(group, template, deadline()));
  const mechanism = encodeMechanism('mechanism', mechanismOf(operation));
  const token = Object.assign(new EventEmitter(), { status: () => statusOf(group) });
  open.onEvent((event) => token.emit(event.type, event));
  // A caller that waits for each reply stays with one member for a while; that member has to fail.
  const victim = () => group.lastAsked.name;
  return {
    token,
    victim,
    call: async () => open.runSync(runCall(group, sign(mechanism, key, operation.data), deadline())),
  };
}
