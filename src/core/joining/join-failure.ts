/** Failure of a join. If `lasting`, trying again cannot help, only an operator can. `code` is the token's CKR code. */
export class JoinFailure extends Error {
  constructor(
    reason: string,
    readonly lasting: boolean = false,
    readonly code?: number,
  ) {
    super(reason);
  }
}
