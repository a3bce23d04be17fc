import { TokenError } from '../../core/base/error.js';
import { ConfigurationError } from '../../core/configuration/validation.js';
import { JoinFailure } from '../../core/joining/join-failure.js';
import { PinError } from '../../runtime/secrets/pin.js';
import { CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { InputError } from '../../spec/input.js';
import { EXIT, type ExitCode } from './exit-code.js';

/** What the operator is told instead of a stack trace. */
export class Failure extends Error {
  constructor(
    message: string,
    /** What to do about it. */
    readonly advice: string,
    readonly exitCode: ExitCode = EXIT.failed,
  ) {
    super(message);
  }
}

/** The command was not given rightly. */
export class UsageError extends Failure {
  constructor(message: string, advice: string) {
    super(message, advice, EXIT.usage);
  }
}

/** What was asked for on the command line is checked; where it is not right, the command was not given rightly. */
export function asked<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof ConfigurationError) throw new UsageError(error.message, '`--help` tells what is expected');
    throw error;
  }
}

/** Ctrl-C, or a question that was left unanswered. */
export class Interrupted extends Failure {
  constructor() {
    super('interrupted', 'what was begun is undone or finished; the command can be given again', EXIT.interrupted);
  }
}

/** The operator did not want it after all. */
export class Declined extends Failure {
  constructor() {
    super('it was not confirmed', 'nothing was changed', EXIT.interrupted);
  }
}

const SEE_STATUS = '`pkcs11-ha status` tells which members are away, and why';

const advices: ReadonlyMap<number, string> = new Map([
  [CKR.pinIncorrect, 'check where the PIN comes from; it was tried once, on one token'],
  [CKR.pinLocked, "the token's security officer has to unlock the user PIN"],
  [CKR.pinExpired, 'change the PIN with the tool of the token’s vendor'],
  [CKR.userPinNotInitialized, "the token's security officer has to set the user PIN"],
  [CKR.deviceRemoved, SEE_STATUS],
  [CKR.actionProhibited, SEE_STATUS],
  [CKR.objectHandleInvalid, '`pkcs11-ha objects` lists what there is'],
  [CKR.keyHandleInvalid, '`pkcs11-ha objects` lists what there is'],
  [CKR.templateIncomplete, 'name it by its handle: `pkcs11-ha objects` lists them'],
  [CKR.functionNotSupported, 'is there a group yet? `pkcs11-ha group create` forms one'],
  [CKR.dataInvalid, 'check that the token is the one that the backup was made on'],
  [CKR.mechanismInvalid, '`pkcs11-ha verify` tells what the members lack'],
]);

const systemAdvices: Readonly<Record<string, string>> = {
  ENOENT: 'check the path',
  EACCES: 'check the permissions, or run it as the owner of the file',
  EPERM: 'check the permissions, or run it as the owner of the file',
  EROFS: 'choose a place that can be written to',
  ENOSPC: 'make room on the disk; nothing was changed in the file',
  EDQUOT: 'make room on the disk; nothing was changed in the file',
  EFBIG: 'make room on the disk; nothing was changed in the file',
  EISDIR: 'give the path of a file',
};

export interface Explanation {
  readonly message: string;
  readonly advice: string;
  /** The PKCS#11 return value, or the system's name of the fault, where there is one. */
  readonly code: string | undefined;
  readonly exitCode: ExitCode;
}

const oneLine = (text: string): string => text.replaceAll(/\s*\n\s*/gu, '; ');

/** What an error means to the operator: one line, and what to do. */
export function explain(error: unknown): Explanation {
  if (error instanceof Failure)
    return { message: oneLine(error.message), advice: error.advice, code: undefined, exitCode: error.exitCode };
  const message = oneLine(error instanceof Error ? error.message : String(error));
  const plain = (advice: string, exitCode: ExitCode, code?: string): Explanation => ({
    message,
    advice,
    code,
    exitCode,
  });
  if (error instanceof ConfigurationError)
    return plain('mend the configuration: docs/configuration.md has all settings', EXIT.failed);
  if (error instanceof PinError) return plain('check what `pin` in the configuration refers to', EXIT.failed);
  if (error instanceof InputError) return plain('`--help` tells what is expected', EXIT.usage);
  if (error instanceof JoinFailure) return plain('check the path of the library, and --env', EXIT.failed);
  if (error instanceof TokenError)
    return plain(advices.get(error.code) ?? SEE_STATUS, EXIT.failed, codeName(error.code));
  const { code } = error as { code?: unknown };
  if (typeof code === 'string' && systemAdvices[code] !== undefined)
    return plain(systemAdvices[code], EXIT.failed, code);
  return plain('this was not foreseen: please report it', EXIT.failed);
}
