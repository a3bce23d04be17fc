import type { StateName } from '../base/state.js';
import type { Balance } from '../configuration/configuration.js';
import type { VirtualObject } from '../objects/object.js';

/** Member as routing sees it. */
export interface Candidate {
  readonly state: { readonly name: StateName };
  readonly cost: number;
  /** Time until which the member gets no work (ms of the port's clock). */
  readonly busyUntil: number;
  /** Abilities that the member reported as missing, with the time until which the report counts (ms). */
  readonly lacking: ReadonlyMap<string, number>;
  readonly connection:
    | {
        readonly end: unknown;
        /** Number of jobs without a reply. */
        readonly load: number;
        readonly replicas: ReadonlyMap<VirtualObject, { readonly kind: string; readonly until?: number }>;
      }
    | undefined;
}

/** Call as routing sees it. */
interface RouteRequest {
  readonly objects: readonly VirtualObject[];
  /** Function with its mechanism, as in `lacking`. */
  readonly ability: string;
  readonly now: number;
  readonly balance: Balance;
  /** Random number, 0 ≤ x < 1. */
  readonly random: () => number;
  /** Number that goes up with each attempt, for round robin. */
  readonly rotation: number;
  /** Member that was asked last, if the caller waits for each call; undefined otherwise. */
  readonly lastAsked: unknown;
}

/**
 * Last stand: states that are tried if no member is active, standby or stale. A suspect that still has its host may
 * only have been slow.
 */
const lastStand: readonly StateName[] = ['suspect', 'recovering'];

/** States that are tried one tier after the other. */
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

/** Factor up to which a member's cost may exceed another's and still count as equal. */
const AS_GOOD = 1.3;

function chooseAmong<C extends Candidate>(candidates: readonly C[], request: RouteRequest): C | undefined {
  const first = candidates[0];
  if (candidates.length <= 1) return first;
  switch (request.balance) {
    case 'primary':
      return first;
    case 'roundRobin':
      return candidates[request.rotation % candidates.length];
    case 'leastOutstanding': {
      // A caller that waits for each answer gains from a host that is still awake, not from several members.
      const lastAsked = candidates.find((candidate) => candidate === request.lastAsked);
      if (lastAsked?.connection?.load === 0 && candidates.every(({ cost }) => lastAsked.cost <= cost * AS_GOOD))
        return lastAsked;
      // Two members are picked at random, and the cheaper is taken: callers do not all rush to the member that was idle
      // a moment ago. The order of the two is random, so that members of equal cost share the work.
      const one = Math.floor(request.random() * candidates.length);
      const other = (one + 1 + Math.floor(request.random() * (candidates.length - 1))) % candidates.length;
      const [a, b] = [candidates[one], candidates[other]];
      return a !== undefined && b !== undefined && a.cost <= b.cost * AS_GOOD ? a : b;
    }
  }
}

const isFree = (candidate: Candidate, request: RouteRequest): boolean =>
  candidate.busyUntil <= request.now && mayServe(candidate, request);

// Members that lack the ability are asked last, not never.
const isAble = ({ lacking }: Candidate, { ability, now }: RouteRequest): boolean =>
  lacking.size === 0 || (lacking.get(ability) ?? 0) <= now;

/** Returns the next member to try, without those that are excluded; undefined if there is none. */
export function route<C extends Candidate>(
  members: readonly C[],
  request: RouteRequest,
  excluded: (member: C) => boolean,
): C | undefined {
  // Usual case, without an allocation.
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
