import type { Balance } from './configuration.js';
import type { VirtualObject } from './object.js';
import type { StateName } from './state.js';

/** What routing sees of a member. */
export interface Candidate {
  readonly state: { readonly name: StateName };
  readonly cost: number;
  readonly busyUntil: number;
  /** Functions with mechanisms that it said it lacks, and until when that is believed. */
  readonly lacking: ReadonlyMap<string, number>;
  readonly connection:
    | {
        readonly end: unknown;
        readonly replicas: ReadonlyMap<VirtualObject, { readonly kind: string; readonly until?: number }>;
      }
    | undefined;
}

export interface RouteRequest {
  readonly objects: readonly VirtualObject[];
  /** The function with its mechanism, as `lacking` has it. */
  readonly ability: string;
  readonly now: number;
  readonly balance: Balance;
  /** 0 ≤ x < 1 */
  readonly random: () => number;
  /** Counts up from call to call, for round robin. */
  readonly turn: number;
}

/** The groups that are tried one after the other: who serves, who waits in reserve, who has missed something. */
const tiers: readonly (readonly StateName[])[] = [['active'], ['standby'], ['stale']];

/**
 * The named last rule: with nobody in service, try whoever is reachable while the budget lasts. A suspect
 * that still has its host may only have been slow.
 */
const lastStand: readonly StateName[] = ['suspect', 'recovering'];

function mayServe(candidate: Candidate, request: RouteRequest): boolean {
  const { connection } = candidate;
  if (connection === undefined || connection.end !== undefined) return false;
  return request.objects.every((object) => {
    const replica = connection.replicas.get(object);
    return replica === undefined || replica.kind === 'usable' || (replica.until ?? 0) <= request.now;
  });
}

/** A member that has no more to do than this, compared with another, is as good as it. */
const AS_GOOD = 1.3;

function chooseAmong<C extends Candidate>(candidates: readonly C[], request: RouteRequest): C | undefined {
  const first = candidates[0];
  if (candidates.length <= 1) return first;
  switch (request.balance) {
    case 'primary':
      return first;
    case 'roundRobin':
      return candidates[request.turn % candidates.length];
    case 'leastOutstanding': {
      // Pick two at random, take the one with less to do: no herd on whoever was idle a moment ago. Which is
      // the first of the two is chance, so that members as good as each other share the work.
      const one = Math.floor(request.random() * candidates.length);
      const other = (one + 1 + Math.floor(request.random() * (candidates.length - 1))) % candidates.length;
      const [a, b] = [candidates[one], candidates[other]];
      return a !== undefined && b !== undefined && a.cost <= b.cost * AS_GOOD ? a : b;
    }
  }
}

/** The next member to try, or undefined when there is none; `excluded` are those that have been tried. */
export function route<C extends Candidate>(
  members: readonly C[],
  request: RouteRequest,
  excluded: (member: C) => boolean,
): C | undefined {
  const open = members.filter(
    (member) => member.busyUntil <= request.now && !excluded(member) && mayServe(member, request),
  );
  // What a member said it lacks makes it the last to be asked, not one that is never asked again.
  const lacks = (member: C): boolean => (member.lacking.get(request.ability) ?? 0) > request.now;
  const able = open.filter((member) => !lacks(member));
  for (const candidates of able.length === open.length ? [open] : [able, open]) {
    for (const names of [...tiers, lastStand]) {
      const chosen = chooseAmong(
        candidates.filter(({ state }) => names.includes(state.name)),
        request,
      );
      if (chosen !== undefined) return chosen;
    }
  }
  return undefined;
}
