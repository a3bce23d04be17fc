import type { StateName } from '../base/state.js';
import type { Balance } from '../configuration/configuration.js';
import type { VirtualObject } from '../objects/object.js';

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
        /** Jobs that it has not replied to. */
        readonly load: number;
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
  /** The one that was asked last, while it may be asked again and again. */
  readonly warm: unknown;
}

/**
 * The named last rule: with nobody in service, try whoever is reachable while the budget lasts. A suspect
 * that still has its host may only have been slow.
 */
const lastStand: readonly StateName[] = ['suspect', 'recovering'];

/** The groups that are tried one after the other: who serves, who waits in reserve, who has missed something. */
const tiers: readonly (readonly StateName[])[] = [['active'], ['standby'], ['stale'], lastStand];

const isActive = ({ state }: Candidate): boolean => state.name === 'active';

function mayServe(candidate: Candidate, request: RouteRequest): boolean {
  const { connection } = candidate;
  if (connection === undefined || connection.end !== undefined) return false;
  for (const object of request.objects) {
    const replica = connection.replicas.get(object);
    if (replica !== undefined && replica.kind !== 'usable' && (replica.until ?? 0) > request.now) return false;
  }
  return true;
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
      // A caller that waits for each answer gains nothing from several members, but a host that is still awake.
      const warm = candidates.find((candidate) => candidate === request.warm);
      if (warm?.connection?.load === 0 && candidates.every(({ cost }) => warm.cost <= cost * AS_GOOD)) return warm;
      // Pick two at random, take the one with less to do: no herd on whoever was idle a moment ago. Which is
      // the first of the two is chance, so that members as good as each other share the work.
      const one = Math.floor(request.random() * candidates.length);
      const other = (one + 1 + Math.floor(request.random() * (candidates.length - 1))) % candidates.length;
      const [a, b] = [candidates[one], candidates[other]];
      return a !== undefined && b !== undefined && a.cost <= b.cost * AS_GOOD ? a : b;
    }
  }
}

const isFree = (candidate: Candidate, request: RouteRequest): boolean =>
  candidate.busyUntil <= request.now && mayServe(candidate, request);

// What a member said it lacks makes it the last to be asked, not one that is never asked again.
const isAble = ({ lacking }: Candidate, { ability, now }: RouteRequest): boolean =>
  lacking.size === 0 || (lacking.get(ability) ?? 0) <= now;

/** The next member to try, or undefined when there is none; `excluded` are those that have been tried. */
export function route<C extends Candidate>(
  members: readonly C[],
  request: RouteRequest,
  excluded: (member: C) => boolean,
): C | undefined {
  // As it nearly always is: nothing is made for that.
  if (members.every((member) => isFree(member, request) && isAble(member, request) && !excluded(member)))
    return chooseByTier(members, request);
  const open = members.filter((member) => isFree(member, request) && !excluded(member));
  const able = open.filter((member) => isAble(member, request));
  return chooseByTier(able, request) ?? (able.length < open.length ? chooseByTier(open, request) : undefined);
}

function chooseByTier<C extends Candidate>(candidates: readonly C[], request: RouteRequest): C | undefined {
  if (candidates.every(isActive)) return chooseAmong(candidates, request);
  for (const names of tiers) {
    const chosen = chooseAmong(
      candidates.filter(({ state }) => names.includes(state.name)),
      request,
    );
    if (chosen !== undefined) return chosen;
  }
  return undefined;
}
