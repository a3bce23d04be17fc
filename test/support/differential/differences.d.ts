export const differences: readonly {
  readonly name: string;
  /** Whether what was seen of a call, in a case of that name, differs in this way. */
  isIt(theirs: string, ours: string, name: string): boolean;
}[];
