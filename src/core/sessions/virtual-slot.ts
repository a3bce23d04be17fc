import { CKF, CKR, CKU } from '../../spec/codes.js';
import type { SecretRef } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { VirtualObject } from '../objects/object.js';
import { tryApplicationPin } from '../pin/application-pin.js';
import { changePin } from '../pin/pin-change.js';
import type { CallerContexts } from './caller-context.js';
import { type SlotOfSession, VirtualSession } from './virtual-session.js';

/**
 * Group as a PKCS#11 application sees it: a slot with a token, sessions and a login (section 2.6). If the slots of
 * members are shown, they share the login.
 */
export class VirtualSlot implements SlotOfSession {
  readonly #sessions = new Map<number, VirtualSession>();
  readonly #nextHandle: () => number;
  readonly #peers: Set<VirtualSlot>;

  constructor(
    readonly id: number,
    readonly group: Group,
    readonly callerContexts: CallerContexts,
    /** Returns the next session handle; all slots of an application share the count. */
    nextHandle: () => number,
    /** Slots of the same group, which share its login; this slot is added. */
    peers: Set<VirtualSlot>,
    /**
     * Member whose own slot this is: its calls run there, and objects are not changed. Undefined for the group's slot.
     */
    readonly only?: Member | undefined,
  ) {
    this.#nextHandle = nextHandle;
    this.#peers = peers;
    peers.add(this);
    group.isLoggedIn = false;
  }

  get sessions(): readonly VirtualSession[] {
    return [...this.#sessions.values()];
  }

  /** True while members serve or may come back by themselves, since calls wait for them. */
  get isTokenPresent(): boolean {
    return this.only === undefined ? !this.group.isHopeless : this.only.isServing;
  }

  find(handle: number): VirtualSession | undefined {
    return this.#sessions.get(handle);
  }

  /** Opens a session (C_OpenSession, section 5.6). */
  openSession(flags: number): VirtualSession {
    if ((flags & CKF.serialSession) === 0)
      throw new TokenError(CKR.sessionParallelNotSupported, 'C_OpenSession', 'flag CKF_SERIAL_SESSION is missing');
    const session = new VirtualSession(this, this.#nextHandle(), flags);
    this.#sessions.set(session.handle, session);
    return session;
  }

  /** Closes a session (C_CloseSession); the login ends with the last session. */
  closeSession(session: VirtualSession): void {
    this.#sessions.delete(session.handle);
    session.close();
    if ([...this.#peers].every((peer) => peer.#sessions.size === 0)) this.group.isLoggedIn = false;
  }

  closeAllSessions(): void {
    for (const session of this.sessions) this.closeSession(session);
  }

  /**
   * Logs the application in (C_Login, section 5.6). The PIN is compared with the PIN that the members are logged in
   * with. If the configuration has no PIN, the members are logged in with the application's.
   */
  *login(session: VirtualSession, user: number, pin: SecretRef | undefined, deadline: number): Task<void> {
    const refuse = (code: number, explanation = ''): TokenError => new TokenError(code, 'C_Login', explanation);
    if (user === CKU.so) throw refuse(CKR.functionNotSupported, 'the virtual slot has no security officer');
    if (user === CKU.contextSpecific) {
      if (!session.needsLogin) throw refuse(CKR.operationNotInitialized);
      if (pin === undefined || !session.authenticate(pin)) throw refuse(CKR.pinIncorrect);
      return;
    }
    if (user !== CKU.user) throw refuse(CKR.userTypeInvalid);
    const { group } = this;
    if (group.isLoggedIn) throw refuse(CKR.userAlreadyLoggedIn);
    if (pin === undefined) throw refuse(CKR.pinIncorrect);
    if (group.pin === undefined) yield* tryApplicationPin(group, pin, deadline);
    else if (!this.isPin(pin)) throw refuse(CKR.pinIncorrect, 'no member was asked');
    group.isLoggedIn = true;
  }

  /** Logs the application out (C_Logout); the members stay logged in. */
  logout(): void {
    if (!this.group.isLoggedIn) throw new TokenError(CKR.userNotLoggedIn, 'C_Logout', '');
    for (const session of [...this.#peers].flatMap(({ sessions }) => sessions)) {
      session.endOperations();
      session.removePrivateObjects();
    }
    this.group.isLoggedIn = false;
  }

  /** Changes the PIN on all members (C_SetPIN, section 5.5). */
  *setPin(session: VirtualSession, old: SecretRef | undefined, next: SecretRef, deadline: number): Task<void> {
    if (session.isReadOnly || this.only !== undefined) throw new TokenError(CKR.sessionReadOnly, 'C_SetPIN', '');
    if (this.group.pin === undefined)
      throw new TokenError(CKR.userNotLoggedIn, 'C_SetPIN', 'the PIN of the members is not known; log in first');
    if (old === undefined || !this.isPin(old))
      throw new TokenError(CKR.pinIncorrect, 'C_SetPIN', 'no member was asked');
    yield* changePin(this.group, next, { pending: false }, deadline);
  }

  /** Tells whether a PIN is the one that the members are logged in with. */
  isPin(pin: SecretRef): boolean {
    const { pin: known, port } = this.group;
    return known !== undefined && port.secrets.areEqual(known, pin);
  }

  /** Removes a destroyed object from all sessions. */
  forget(object: VirtualObject): void {
    for (const session of this.sessions) session.objects.delete(object);
  }
}

/** Makes the error for a session handle that does not exist. */
export function sessionHandleInvalid(functionName: string): TokenError {
  return new TokenError(CKR.sessionHandleInvalid, functionName, '');
}
