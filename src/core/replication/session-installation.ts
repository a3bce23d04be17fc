import { CKA, CKR } from '../../spec/codes.js';
import { attributeIn } from '../../spec/rules.js';
import type { Task } from '../base/task.js';
import { runTogether } from '../base/waiting.js';
import { isReachable, runOnMember } from '../call/member-job-run.js';
import type { Member } from '../group/member.js';
import { type CreationRequest, isSecretRequest } from '../jobs/creation-request.js';
import { noteAttributes } from '../objects/note.js';
import { type NamedOriginal, plannedReplicaOf, sealedOf } from './creation-plan.js';
import { installOn, keepReplica, problemOf } from './installation-on-all.js';
import type { ReplicatedChange } from './replicated-change.js';
import { destroyingHandles } from './written-objects.js';

/** Installs session objects on all members. A member that is away gets them when a call needs them there. */
export function* installInSessions(
  change: ReplicatedChange,
  members: readonly Member[],
  creation: CreationRequest,
  named: readonly NamedOriginal[],
): Task<void> {
  const { group } = change;
  const plannedReplicas = named.map((each) => plannedReplicaOf(creation, each));
  for (const [index, { original, object }] of named.entries()) {
    // A key that was made of other keys, and that nobody can wrap, ends with its hosts.
    const isLost =
      isSecretRequest(original.request) &&
      original.wrapped === undefined &&
      original.value === undefined &&
      attributeIn(original.request.asked, CKA.value) === undefined;
    const template = isLost
      ? []
      : ((original.wrapped === undefined ? plannedReplicas[index]?.template : original.template) ?? []);
    object.session = {
      template,
      wrapped: original.wrapped ?? sealedOf(group, creation, original),
      answers: noteAttributes(original.answers),
    };
  }
  const outcomes = yield* runTogether(
    group,
    members.filter(isReachable).map((member) => installOn(change, member, plannedReplicas, [])),
  );
  const done = outcomes.flatMap((outcome) => (outcome.kind === 'done' ? [outcome] : []));
  const isMade = done.length > 0 && !change.givenUp;
  // Objects that came out wrong are destroyed; if the call failed, all of them are.
  const useless = outcomes.flatMap((outcome) =>
    'written' in outcome && (!isMade || outcome.kind === 'wrong') ? [outcome.written] : [],
  );
  yield* runTogether(
    group,
    useless.map((written) => runOnMember(group, written.member, destroyingHandles(written), change.cleanupBy)),
  );
  if (!isMade)
    throw problemOf(change, outcomes, done.length) ?? change.failure(CKR.functionFailed, 'no member made the object');
  for (const { written, result } of done) {
    for (const installed of result.installed) keepReplica(group, written.member, written.login, installed);
  }
}
