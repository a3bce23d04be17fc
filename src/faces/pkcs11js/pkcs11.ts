import type pkcs11js from '#pkcs11js';
import { callerContexts } from '../../runtime/scheduling/caller-contexts.js';
import { callSync, callWith } from './calling.js';
import { dataMethods } from './data-methods.js';
import { convertError, notLoaded } from './errors.js';
import { handleOf } from './handle.js';
import { moduleInfo } from './information.js';
import { Library } from './library.js';
import type { Method } from './methods.js';
import { objectMethods } from './object-methods.js';
import { sessionMethods } from './session-methods.js';

type Callback = (error: unknown, result: unknown) => void;

const methods: Readonly<Record<string, Method>> = { ...sessionMethods, ...objectMethods, ...dataMethods };

const libraries = new WeakMap<object, Library>();

function libraryOf(owner: object): Library {
  const library = libraries.get(owner);
  if (library === undefined) throw notLoaded();
  return library;
}

/**
 * Class of pkcs11js on virtual slots: `load` takes the path of a group's configuration instead of a vendor's library.
 * docs/pkcs11js.md lists the differences.
 */
// Takes its methods from the tables above, and their types from pkcs11js.
export interface PKCS11 extends Omit<pkcs11js.PKCS11, 'load' | 'close' | 'libPath'> {}
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: see above
export class PKCS11 {
  libPath!: string;

  /** Loads the path, if one is given. */
  constructor(path?: string) {
    if (path) this.load(path);
  }

  /**
   * Loads a group's configuration from its path, or several, separated by commas: one slot for each. Starts nothing
   * yet. Throws a ConfigurationError for a file that is not valid.
   */
  load(path: string): void {
    const library = Library.load(path);
    libraries.get(this)?.unload();
    libraries.set(this, library);
    this.libPath = path;
  }

  /** Unloads the library; the last user's call ends the hosts. */
  close(): void {
    libraries.get(this)?.unload();
    libraries.delete(this);
  }
}

function throwAs(name: string, error: unknown): never {
  throw convertError(error, name);
}

/** Defines a method as pkcs11js does: enumerable and writable. */
function define(name: string, value: (this: PKCS11, ...args: unknown[]) => unknown): void {
  Object.defineProperty(value, 'name', { value: name });
  Object.defineProperty(PKCS11.prototype, name, { value, enumerable: true, writable: true, configurable: true });
}

/** Methods whose number of arguments pkcs11js does not check. */
const lenient: ReadonlySet<string> = new Set(['C_CreateObject', 'C_CopyObject', 'C_SetAttributeValue']);

for (const [name, method] of Object.entries(methods)) {
  const { takes, isAsync } = method;
  if (name === 'C_FindObjects') continue;
  define(name, function (...given) {
    const library = libraryOf(this);
    const args = lenient.has(name) ? takes.map((_kind, at) => given[at]) : given;
    return callerContexts.call(() =>
      isAsync === true && args.length > takes.length
        ? callWith(library, method, args)
        : callSync(library, name, method, args),
    );
  });
  if (isAsync !== true) continue;
  define(`${name}Callback`, function (...args) {
    const library = libraryOf(this);
    return callerContexts.call(() => callWith(library, method, args));
  });
  define(`${name}Async`, function (...args) {
    return callerContexts.call(
      () =>
        new Promise((resolve, reject) => {
          const callback: Callback = (error, result) => (error ? reject(error) : resolve(result));
          callWith(libraryOf(this), method, [...args, callback]);
        }),
    );
  });
}

define('C_FindObjects', function (...args) {
  const library = libraryOf(this);
  const method = methods.C_FindObjects as Method;
  if (args.length >= 2) return callSync(library, 'C_FindObjects', method, args);
  const [first = null] = callSync(library, 'C_FindObjects', method, [...args, 1]) as Buffer[];
  return first;
});

define('C_GenerateRandom', function (...args) {
  callSync(libraryOf(this), 'C_GenerateRandom', methods.C_GenerateRandom as Method, args);
  return args[1];
});

define('C_Initialize', function (...args) {
  const library = libraryOf(this);
  const [options] = args;
  if (options !== undefined && options !== null) {
    if (typeof options !== 'object') throw new TypeError('Argument 0 has wrong type. Should be an Object');
    const { libraryParameters } = options as { libraryParameters?: unknown };
    if ('libraryParameters' in options && typeof libraryParameters !== 'string')
      throw new TypeError("Argument 0 has wrong type. Property 'libraryParameters' should be a String");
  }
  try {
    library.initialize();
  } catch (error) {
    throwAs('C_Initialize', error);
  }
});

define('C_Finalize', function () {
  const library = libraryOf(this);
  try {
    library.finalize();
  } catch (error) {
    throwAs('C_Finalize', error);
  }
});

define('C_GetInfo', function () {
  const library = libraryOf(this);
  try {
    library.checkInitialized();
    return moduleInfo();
  } catch (error) {
    return throwAs('C_GetInfo', error);
  }
});

define('C_GetSlotList', function (...args) {
  const library = libraryOf(this);
  const [present = false] = args;
  if (args.length > 0 && typeof args[0] !== 'boolean')
    throw new TypeError('Argument 0 has wrong type. Should be a Boolean');
  try {
    return library.slotIds(present === true).map(handleOf);
  } catch (error) {
    return throwAs('C_GetSlotList', error);
  }
});
