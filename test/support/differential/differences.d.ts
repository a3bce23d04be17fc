/** Documented differences. */
export const differences: readonly {
  readonly name: string;
  /** Returns true if two lines of a case of that name differ in this way. */
  isIt(theirs: string, ours: string, name: string): boolean;
}[];
