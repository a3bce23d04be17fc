/** What the process ends with; scripts go by it. */
export const EXIT = {
  good: 0,
  failed: 1,
  usage: 2,
  /** The group works, but not with all its members, or not all is in step. */
  degraded: 3,
  /** Ctrl-C, as shells have it. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];
