import pkcs11js from '#pkcs11js';
import { TokenError } from '../../core/base/error.js';
import { findConstant, namesOf } from '../../spec/constants.js';

const { NativeError, Pkcs11Error } = pkcs11js as unknown as {
  NativeError: new (message?: string, method?: string) => Error;
  Pkcs11Error: new (message: string, code: number, method?: string) => Error & { nativeStack: string };
};

const names = namesOf('CKR_');

/** As pkcs11js has it: what its header does not name is CKR_VENDOR_DEFINED. */
function messageOf(code: number): string {
  const name = `CKR_${names.get(code) ?? 'VENDOR_DEFINED'}`;
  return findConstant(name) === undefined ? 'CKR_VENDOR_DEFINED' : name;
}

/** The application's own class of errors, with all that is known in `cause`, which is not enumerable. */
function errorOf(code: number, method: string, cause?: unknown): Error {
  const error = new Pkcs11Error(messageOf(code), code, method);
  error.nativeStack = (error.stack ?? '').split('\n').slice(1).join('\n');
  if (cause !== undefined) Object.defineProperty(error, 'cause', { value: cause, configurable: true, writable: true });
  return error;
}

/** An error as the application gets it; TypeErrors and others go as they are. */
export function convertError(error: unknown, method: string): unknown {
  return error instanceof TokenError ? errorOf(error.code, method, error) : error;
}

export function notLoaded(): Error {
  return new NativeError('PKCS11 module not loaded yet');
}
