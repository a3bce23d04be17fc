/** Exit codes of the process, for scripts. */
export const EXIT = {
  good: 0,
  failed: 1,
  usage: 2,
  /** Code for a group that works although a member is away or something is out of step. */
  degraded: 3,
  /** Code for Ctrl-C, as in shells. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];
