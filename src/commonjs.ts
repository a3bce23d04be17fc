import { TokenError } from './core/base/error.js';
import { ConfigurationError } from './core/configuration/validation.js';
import pkcs11js from './faces/pkcs11js/index.js';
import { TokenObject } from './faces/token/object.js';
import { VirtualToken } from './faces/token/virtual-token.js';
import { createGroup, deleteGroup, undrainMember } from './runtime/groups/create-group.js';
import { PinError } from './runtime/secrets/pin-source.js';
import { InputError } from './spec/input.js';

interface Own {
  readonly ConfigurationError: typeof ConfigurationError;
  readonly InputError: typeof InputError;
  readonly PinError: typeof PinError;
  readonly TokenError: typeof TokenError;
  readonly TokenObject: typeof TokenObject;
  readonly VirtualToken: typeof VirtualToken;
  readonly createGroup: typeof createGroup;
  readonly deleteGroup: typeof deleteGroup;
  readonly undrainMember: typeof undrainMember;
}

const own: Own = {
  ConfigurationError,
  InputError,
  PinError,
  TokenError,
  TokenObject,
  VirtualToken,
  createGroup,
  deleteGroup,
  undrainMember,
};

/**
 * Exports of `require('pkcs11-ha')`: this package's, and pkcs11js's with the class on virtual slots. The package can
 * therefore replace pkcs11js (npm overrides).
 */
export const everything: typeof pkcs11js & Own = { ...pkcs11js, ...own };
