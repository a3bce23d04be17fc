import { ulongBytes } from '../../spec/attribute.js';
import { CKA, CKR } from '../../spec/codes.js';
import { attributeIn } from '../../spec/rules.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { awaitCompletion } from '../base/waiting.js';
import { findObjects } from '../call/find.js';
import type { HeldClaim } from '../coordination/coordinator.js';
import { holderOf, takeClaim } from '../group/claimed-work.js';
import type { Group } from '../group/group.js';
import type { CreationRequest, ObjectRequest } from '../jobs/creation-request.js';
import type { VirtualObject } from '../objects/object.js';
import { createObjects } from './creation.js';

/** Number of claims that the labels share: two keys of one claim are made one after the other. */
const CLAIMS = 64;

/** Returns the template that finds the requested object by its class, key type and label. */
function templateFor({ class: objectClass, type, asked }: ObjectRequest): { type: number; value: Uint8Array }[] {
  const label = attributeIn(asked, CKA.label) ?? new Uint8Array();
  const template = [
    { type: CKA.class, value: ulongBytes(objectClass) },
    { type: CKA.label, value: label },
  ];
  return Number.isNaN(type) ? template : [...template, { type: CKA.keyType, value: ulongBytes(type) }];
}

/**
 * Finds the key, or the pair, that a request would make, by class, key type and label. If there is none, one of the
 * processes that share the coordinator makes it, and the others find it. Throws CKR_TEMPLATE_INCOMPLETE if several keys
 * match.
 */
export function* ensureKey(
  group: Group,
  creation: CreationRequest,
  deadline: number,
): Task<{ readonly objects: readonly VirtualObject[]; readonly isMade: boolean }> {
  const labels = creation.requests.map(({ asked }) => attributeIn(asked, CKA.label) ?? new Uint8Array());
  const work = `key ${(group.port.sha256(Buffer.concat(labels))[0] ?? 0) % CLAIMS}` as const;
  const found = yield* findAll(group, creation, deadline);
  // While another process has the claim, the key may be one that it is making, and may still undo.
  if (found !== undefined && holderOf(group, work) === undefined) return { objects: found, isMade: false };
  const claim = yield* takeClaim(group, work, deadline);
  if (claim === undefined) {
    const holder = holderOf(group, work) ?? 'another process';
    throw new TokenError(CKR.functionFailed, creation.function, `${holder} is making a key; try again later`);
  }
  try {
    return yield* findOrMake(group, creation, deadline);
  } finally {
    group.port.start(releaseAfterWork(group, claim));
  }
}

/** Releases a claim when the changes of this process have ended: one that failed may still be undone. */
function* releaseAfterWork({ port, background }: Group, claim: HeldClaim): Task<void> {
  try {
    for (const running of [...background]) yield* awaitCompletion(port, running);
  } finally {
    claim.release();
  }
}

function* findOrMake(
  group: Group,
  creation: CreationRequest,
  deadline: number,
): Task<{ readonly objects: readonly VirtualObject[]; readonly isMade: boolean }> {
  const found = yield* findAll(group, creation, deadline);
  if (found !== undefined) return { objects: found, isMade: false };
  return { objects: yield* createObjects(group, creation, deadline), isMade: true };
}

/** Finds all requested objects; undefined if none is there. Throws if only one half of a pair is, or several match. */
function* findAll(
  group: Group,
  creation: CreationRequest,
  deadline: number,
): Task<readonly VirtualObject[] | undefined> {
  const found: VirtualObject[] = [];
  for (const request of creation.requests) {
    const matching = yield* findObjects(group, templateFor(request), deadline);
    const ofToken = matching.filter(({ session }) => session === undefined);
    if (ofToken.length > 1)
      throw new TokenError(CKR.templateIncomplete, creation.function, `${ofToken.length} keys have the label`);
    found.push(...ofToken);
  }
  if (found.length === 0) return undefined;
  if (found.length < creation.requests.length)
    throw new TokenError(CKR.templateInconsistent, creation.function, 'only one half of the pair is there');
  return found;
}
