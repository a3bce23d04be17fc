/** Ends a join. `lasting`: trying again cannot help, only an operator can. */
export class JoinFailure extends Error {
  constructor(
    reason: string,
    readonly lasting: boolean = false,
    readonly code?: number,
  ) {
    super(reason);
  }
}
