/** Mix of what befalls a fleet: probabilities for each call or step, and means of intervals (ms of virtual time). */
export interface Profile {
  readonly applications: number;
  readonly members: number;
  /** Number of calls of all applications. */
  readonly calls: number;
  /** Mean time between two kills of an application; 0: none. */
  readonly killsEvery: number;
  /** Mean time between two kills of a host. */
  readonly hostKillsEvery: number;
  /** Mean time between two stops of an application, and of a host. */
  readonly stopsEvery: number;
  readonly hostStopsEvery: number;
  /** Mean time between two outages of a member. */
  readonly outagesEvery: number;
  /** Probability that a call on a token answers CKR_DEVICE_ERROR. */
  readonly errors: number;
  /** Probability that a call on a token never returns. */
  readonly hangs: number;
}

const quiet: Profile = {
  ...{ applications: 1, members: 2, calls: 60, killsEvery: 0, hostKillsEvery: 0, outagesEvery: 0, errors: 0, hangs: 0 },
  ...{ stopsEvery: 0, hostStopsEvery: 0 },
};

/** Profiles by name. */
export const PROFILES: Readonly<Record<string, Profile>> = {
  quiet,
  writers: { ...quiet, applications: 2 },
  hosts: { ...quiet, applications: 2, hostKillsEvery: 300 },
  kills: { ...quiet, applications: 2, killsEvery: 400, hostKillsEvery: 600 },
  outages: { ...quiet, applications: 2, outagesEvery: 800 },
  stops: { ...quiet, applications: 2, stopsEvery: 800, hostStopsEvery: 400 },
  errors: { ...quiet, applications: 2, errors: 0.002, hangs: 0.0005 },
  everything: {
    ...{ ...quiet, applications: 2, members: 3, killsEvery: 700, hostKillsEvery: 600, outagesEvery: 1200 },
    ...{ errors: 0.001, hangs: 0.0003, stopsEvery: 3000, hostStopsEvery: 2000 },
  },
};
