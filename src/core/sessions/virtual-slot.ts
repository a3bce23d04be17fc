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
 * A group as a PKCS#11 application sees it: a slot with a token, its sessions and its login (section 2.6). The slots of its
 * members, where they are shown, have the same login.
 */
export class VirtualSlot implements SlotOfSession {
  readonly #sessions = new Map<number, VirtualSession>();

  constructor(
    readonly id: number,
    readonly group: Group,
    readonly flows: CallerContexts,
    /** The next session handle: an application's slots count together. */
    private readonly nextHandle: () => number,
    /** The slots of the same group, which have the same login; this one is added. */
    private readonly peers: Set<VirtualSlot>,
    /** The member whose own slot it is: everything is done there, and nothing is changed. */
    readonly only?: Member | undefined,
  ) {
    peers.add(this);
    group.isLoggedIn = false;
  }

  get sessions(): readonly VirtualSession[] {
    return [...this.#sessions.values()];
  }

  /** While members may come back by themselves calls wait for them: the token is there. */
  get isTokenPresent(): boolean {
    return this.only === undefined ? !this.group.isHopeless : this.only.isServing;
  }

  find(handle: number): VirtualSession | undefined {
    return this.#sessions.get(handle);
  }

  /** C_OpenSession, section 5.6. */
  openSession(flags: number): VirtualSession {
    if ((flags & CKF.serialSession) === 0)
      throw new TokenError(CKR.sessionParallelNotSupported, 'C_OpenSession', 'CKF_SERIAL_SESSION has to be set');
    const session = new VirtualSession(this, this.nextHandle(), flags);
    this.#sessions.set(session.handle, session);
    return session;
  }

  /** C_CloseSession; with the last session the login ends. */
  closeSession(session: VirtualSession): void {
    this.#sessions.delete(session.handle);
    session.close();
    if ([...this.peers].every((peer) => peer.#sessions.size === 0)) this.group.isLoggedIn = false;
  }

  closeAllSessions(): void {
    for (const session of this.sessions) this.closeSession(session);
  }

  /**
   * C_Login, section 5.6. The PIN is compared here with the one that the members were logged in with; only where the
   * configuration has none it goes to them.
   */
  *login(session: VirtualSession, user: number, pin: SecretRef | undefined, deadline: number): Task<void> {
    const refuse = (code: number, explanation = ''): TokenError => new TokenError(code, 'C_Login', explanation);
    if (user === CKU.so) throw refuse(CKR.functionNotSupported, 'the virtual slot has no security officer');
    if (user === CKU.contextSpecific) {
      if (session.asking === undefined) throw refuse(CKR.operationNotInitialized);
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

  /** C_Logout: no member hears of it. */
  logout(): void {
    if (!this.group.isLoggedIn) throw new TokenError(CKR.userNotLoggedIn, 'C_Logout', '');
    for (const session of [...this.peers].flatMap(({ sessions }) => sessions)) {
      session.endOperations();
      session.letGoPrivate();
    }
    this.group.isLoggedIn = false;
  }

  /** C_SetPIN, section 5.5, on all members. */
  *setPin(session: VirtualSession, old: SecretRef | undefined, next: SecretRef, deadline: number): Task<void> {
    if (session.isReadOnly || this.only !== undefined) throw new TokenError(CKR.sessionReadOnly, 'C_SetPIN', '');
    if (this.group.pin === undefined)
      throw new TokenError(CKR.userNotLoggedIn, 'C_SetPIN', 'nobody has logged in to the members');
    if (old === undefined || !this.isPin(old))
      throw new TokenError(CKR.pinIncorrect, 'C_SetPIN', 'no member was asked');
    yield* changePin(this.group, next, { pending: false }, deadline);
  }

  isPin(pin: SecretRef): boolean {
    const { pin: known, port } = this.group;
    return known !== undefined && port.secrets.areEqual(known, pin);
  }

  /** An object was destroyed. */
  forget(object: VirtualObject): void {
    for (const session of this.sessions) session.objects.delete(object);
  }
}

export function sessionHandleInvalid(functionName: string): TokenError {
  return new TokenError(CKR.sessionHandleInvalid, functionName, '');
}
