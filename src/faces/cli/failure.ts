import { TokenError } from '../../core/base/error.js';
import { ConfigurationError } from '../../core/configuration/validation.js';
import { JoinFailure } from '../../core/joining/join-failure.js';
import { PinError } from '../../runtime/secrets/pin-source.js';
import { CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { InputError } from '../../spec/input.js';
import { EXIT, type ExitCode } from './exit-code.js';

/** Error that is shown to the operator as a message and advice, without a stack trace. */
export class Failure extends Error {
  constructor(
    message: string,
    /** Advice on what to do. */
    readonly advice: string,
    readonly exitCode: ExitCode = EXIT.failed,
  ) {
    super(message);
  }
}

/** Failure for a command that was used wrongly. */
export class UsageError extends Failure {
  constructor(message: string, advice: string) {
    super(message, advice, EXIT.usage);
  }
}

const SEE_HELP = 'run the command with --help to see what is expected';

/** Checks input from the command line, and turns a ConfigurationError into a UsageError. */
export function checkInput<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof ConfigurationError) throw new UsageError(error.message, SEE_HELP);
    throw error;
  }
}

/** Failure for Ctrl-C, or a question that was cancelled. */
export class Interrupted extends Failure {
  constructor() {
    super(
      'interrupted',
      'changes that were begun are finished or undone; you can run the command again',
      EXIT.interrupted,
    );
  }
}

/** Failure for an operator who answered no. */
export class Declined extends Failure {
  constructor() {
    super('not confirmed', 'nothing was changed', EXIT.interrupted);
  }
}

const SEE_STATUS = 'run `pkcs11-ha status` to see which members are away, and why';
const SEE_OBJECTS = 'run `pkcs11-ha objects` to list the objects';
const MAKE_ROOM = 'make room on the disk; the file was left unchanged';
const CHECK_PERMISSIONS = 'check the permissions, or run the command as the owner of the file';

const advices: ReadonlyMap<number, string> = new Map([
  [CKR.pinIncorrect, 'check the source of the PIN; it was tried once, on one token'],
  [CKR.pinLocked, "have the token's security officer unlock the user PIN"],
  [CKR.pinExpired, "change the PIN with the token vendor's tool"],
  [CKR.userPinNotInitialized, "have the token's security officer set the user PIN"],
  [CKR.deviceRemoved, SEE_STATUS],
  [CKR.actionProhibited, SEE_STATUS],
  [CKR.objectHandleInvalid, SEE_OBJECTS],
  [CKR.keyHandleInvalid, SEE_OBJECTS],
  [CKR.templateIncomplete, 'give a handle; `pkcs11-ha objects` lists the handles'],
  [CKR.functionNotSupported, 'if there is no group yet, create it with `pkcs11-ha group create`'],
  [CKR.dataInvalid, 'check that the backup was made on this token'],
  [CKR.mechanismInvalid, 'run `pkcs11-ha verify` to see which mechanisms the members lack'],
]);

const systemAdvices: Readonly<Record<string, string>> = {
  ENOENT: 'check the path',
  EACCES: CHECK_PERMISSIONS,
  EPERM: CHECK_PERMISSIONS,
  EROFS: 'choose a path on a writable file system',
  ENOSPC: MAKE_ROOM,
  EDQUOT: MAKE_ROOM,
  EFBIG: MAKE_ROOM,
  EISDIR: 'give the path of a file',
};

/** Error as it is shown to the operator, with the exit code. */
interface Explanation {
  readonly message: string;
  readonly advice: string;
  /** PKCS#11 return value, or the system's error name; undefined for other errors. */
  readonly code: string | undefined;
  readonly exitCode: ExitCode;
}

const oneLine = (text: string): string => text.replaceAll(/\s*\n\s*/gu, '; ');

/** Explains an error to the operator: a message in one line, and advice on what to do. */
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
    return plain('correct the configuration; docs/configuration.md lists all settings', EXIT.failed);
  if (error instanceof PinError) return plain('check the `pin` setting of the configuration', EXIT.failed);
  if (error instanceof InputError) return plain(SEE_HELP, EXIT.usage);
  if (error instanceof JoinFailure) return plain('check the path of the library, and --env', EXIT.failed);
  if (error instanceof TokenError)
    return plain(advices.get(error.code) ?? SEE_STATUS, EXIT.failed, codeName(error.code));
  const { code } = error as { code?: unknown };
  if (typeof code === 'string' && systemAdvices[code] !== undefined)
    return plain(systemAdvices[code], EXIT.failed, code);
  return plain('this error is unexpected; please report it', EXIT.failed);
}
