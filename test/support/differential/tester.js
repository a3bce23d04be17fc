// Runs the calls of one case on a library and logs results and errors, in a form without the handles and random
// signatures that differ from run to run.
import { setTimeout as wait } from 'node:timers/promises';

const givesHandle = /^C_(OpenSession|CreateObject|CopyObject|GenerateKey|UnwrapKey|DeriveKey|FindObjects)/u;

/** Caller of a library that logs every call. */
export class Tester {
  constructor(lib, api, { pin, slot }) {
    this.lib = lib;
    this.p = api;
    this.pin = pin;
    this.slot = slot;
    this.log = [];
    this.calls = 0;
    /** Function that is called before each call, with the call's number within the case. */
    this.onCall = undefined;
    this.handles = new Map();
  }

  /** Opens a session, read/write and logged in unless told otherwise. */
  session({ write = true, login = true } = {}) {
    const { p, lib } = this;
    const session = lib.C_OpenSession(this.slot, p.CKF_SERIAL_SESSION | (write ? p.CKF_RW_SESSION : 0));
    if (login) {
      try {
        lib.C_Login(session, p.CKU_USER, this.pin);
      } catch (error) {
        if (error.code !== p.CKR_USER_ALREADY_LOGGED_IN) throw error;
      }
    }
    return session;
  }

  /** Finds the object of a label and class; throws if there is none. */
  find(session, label, objectClass) {
    const { p, lib } = this;
    const template = [{ type: p.CKA_LABEL, value: label }];
    if (objectClass !== undefined) template.push({ type: p.CKA_CLASS, value: objectClass });
    lib.C_FindObjectsInit(session, template);
    const found = lib.C_FindObjects(session);
    lib.C_FindObjectsFinal(session);
    if (found === null) throw new Error(`no ${label}`);
    return found;
  }

  /** Adds a line to the log. */
  note(what) {
    this.log.push(what);
  }

  /** Makes a call and logs its result or error. */
  call(method, ...args) {
    return this.#perform(method, args, 'whole');
  }

  /** Makes a call and logs only the length of its result, since the bytes differ each time. */
  callForLength(method, ...args) {
    return this.#perform(method, args, 'length');
  }

  #count() {
    this.onCall?.(this.calls);
    this.calls += 1;
  }

  #perform(method, args, shown) {
    this.#count();
    try {
      const result = this.lib[method](...args);
      this.#noteResult(method, args, result, shown);
      return result;
    } catch (error) {
      this.#noteError(method, error);
      return undefined;
    }
  }

  /** Makes a call in the form with a callback; logs the result when it has come. */
  async callWith(method, ...args) {
    return await this.#settled(method, args, (settle) => this.lib[method](...args, settle));
  }

  /** Makes a call in the form with a promise. */
  async callAsync(method, ...args) {
    return await this.#settled(method, args, (settle) => {
      this.lib[`${method}Async`](...args).then(
        (result) => settle(null, result),
        (error) => settle(error, null),
      );
    });
  }

  async #settled(method, args, start) {
    this.#count();
    const [error, result] = await new Promise((resolve) => {
      let isOver = false;
      try {
        const given = start((...both) => {
          if (!isOver) this.note(`${method}: the callback was called at once`);
          resolve(both);
        });
        if (given !== undefined) this.note(`${method} returned ${typeof given}`);
      } catch (thrown) {
        this.note(`${method} threw at once`);
        resolve([thrown, null]);
      }
      isOver = true;
    });
    if (error === null) this.#noteResult(method, args, result, method.startsWith('C_Sign') ? 'length' : 'whole');
    else this.#noteError(method, error);
    return result;
  }

  #noteResult(method, args, result, shown) {
    const own = args.findIndex((arg) => arg === result || (arg?.buffer !== undefined && arg.buffer === result?.buffer));
    const memory = own >= 0 && result instanceof Uint8Array ? ` in argument ${own}` : '';
    this.note(`${method}: ${this.show(method, result, shown)}${memory}`);
  }

  #noteError(method, error) {
    const { p } = this;
    const classes = [];
    for (let at = Object.getPrototypeOf(error); at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at))
      classes.push(at.constructor.name);
    const own = error instanceof p.NativeError ? ` keys ${Object.keys(error).join(' ')} method '${error.method}'` : '';
    this.note(`${method} threw ${classes.join(' < ')} '${error.message}' code ${error.code}${own}`);
  }

  /** Describes a value. */
  show(method, value, shown) {
    if (value === null || value === undefined) return String(value);
    if (Array.isArray(value)) {
      if (value.every((each) => typeof each === 'object' && 'type' in each))
        return value.map(({ type, value: bytes }) => `${type}=${this.show('', bytes, shown)}`).join(' ');
      return `[${value.map((each) => this.show(method, each, shown)).join(' ')}]`;
    }
    if (value instanceof Uint8Array) {
      const kind = value.constructor.name;
      if (givesHandle.test(method) && value.length === 8) return `${kind} ${this.#nameOf(method, value)}`;
      return shown === 'length' ? `${kind} of ${value.length}` : `${kind} ${Buffer.from(value).toString('hex')}`;
    }
    if (typeof value === 'object') {
      return `{ ${Object.entries(value)
        .sort(([one], [other]) => (one < other ? -1 : 1))
        .map(([key, each]) => `${key}: ${this.show(/Key$/u.test(key) ? 'C_CreateObject' : '', each, shown)}`)
        .join(', ')} }`;
    }
    return `${typeof value} ${String(value)}`;
  }

  /** Names a handle by its order of appearance: the first is `#1`. */
  #nameOf(method, handle) {
    const key = `${/Session/u.test(method) ? 'session' : 'object'} ${Buffer.from(handle).toString('hex')}`;
    if (!this.handles.has(key)) this.handles.set(key, `#${this.handles.size + 1}`);
    return this.handles.get(key);
  }

  /** Describes all objects that a user with a login sees, sorted. */
  state() {
    const { p, lib } = this;
    lib.C_CloseAllSessions(this.slot);
    const session = this.session();
    lib.C_FindObjectsInit(session, []);
    const found = lib.C_FindObjects(session, 1000);
    lib.C_FindObjectsFinal(session);
    const shown = found.map((handle) => {
      const [label, objectClass] = lib.C_GetAttributeValue(session, handle, [
        { type: p.CKA_LABEL },
        { type: p.CKA_CLASS },
      ]);
      return `${objectClass.value.readUInt32LE()} ${label.value.toString()}`;
    });
    lib.C_CloseAllSessions(this.slot);
    return shown.sort();
  }

  async wait(ms) {
    await wait(ms);
  }
}
