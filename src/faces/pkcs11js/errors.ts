import pkcs11js from '#pkcs11js';
import { TokenError } from '../../core/base/error.js';
import { findConstant, namesOf } from '../../spec/constants.js';

const { NativeError, Pkcs11Error } = pkcs11js as unknown as {
  NativeError: new (message?: string, method?: string) => Error;
  Pkcs11Error: new (message: string, code: number, method?: string) => Error & { nativeStack: string };
};

const names = namesOf('CKR_');

/** Returns pkcs11js's name of a code; CKR_VENDOR_DEFINED for codes that pkcs11js's header does not name. */
function messageOf(code: number): string {
  const name = `CKR_${names.get(code) ?? 'VENDOR_DEFINED'}`;
  return findConstant(name) === undefined ? 'CKR_VENDOR_DEFINED' : name;
}

/** Makes an error of the class that the application knows, with all details in `cause`, which is not enumerable. */
function errorOf(code: number, method: string, cause?: unknown): Error {
  const error = new Pkcs11Error(messageOf(code), code, method);
  error.nativeStack = (error.stack ?? '').split('\n').slice(1).join('\n');
  if (cause !== undefined) Object.defineProperty(error, 'cause', { value: cause, configurable: true, writable: true });
  return error;
}

/** Converts a TokenError to pkcs11js's error; TypeErrors and others pass unchanged. */
export function convertError(error: unknown, method: string): unknown {
  return error instanceof TokenError ? errorOf(error.code, method, error) : error;
}

/** Makes pkcs11js's error for a call before `load`. */
export function notLoaded(): Error {
  return new NativeError('PKCS11 module not loaded yet');
}
