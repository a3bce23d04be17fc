import { CKA, CKR } from '../../spec/codes.js';
import { ck, codeName } from '../../spec/constants.js';
import { type Job, resultOf, step } from '../../spec/job.js';
import { verdictOn } from '../../spec/verdict.js';
import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { failureOf } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { Ticket } from '../group/ticket.js';
import { renewLogin } from '../joining/login-renewal.js';
import type { VirtualObject } from '../objects/object.js';
import type { HangWatch } from './hang-watch.js';

const loggedInStates: ReadonlySet<number> = new Set([ck('CKS_RO_USER_FUNCTIONS'), ck('CKS_RW_USER_FUNCTIONS')]);

/** Result of a probe. `hung`: a call did not return, or the connection ended. */
type ProbeResult =
  | { readonly kind: 'well' }
  | { readonly kind: 'hung' }
  /** `code`: return value of the call that failed, if a call failed. */
  | { readonly kind: 'failed'; readonly code: number | undefined; readonly reason: string };

function failed(reason: string, code?: number): ProbeResult {
  return { kind: 'failed', code, reason };
}

/** Probe of one connection. */
export class Probe {
  readonly #group: Group;
  readonly #member: Member;
  readonly #connection: Connection;
  readonly #hangs: HangWatch;
  /** Object that the running probe reads. */
  #canary: VirtualObject | undefined;

  constructor(group: Group, member: Member, connection: Connection, hangs: HangWatch) {
    this.#group = group;
    this.#member = member;
    this.#connection = connection;
    this.#hangs = hangs;
  }

  /** Tests that the token is the same, that the login holds, and that a known object can still be read. */
  *run(): Task<ProbeResult> {
    const { policy } = this.#group;
    let isMissing = false;
    let isRenewed = false;
    for (;;) {
      const result = yield* this.#ask(isMissing);
      if (result.kind !== 'failed') return result;
      const { code } = result;
      if (code === CKR.objectHandleInvalid && this.#canary !== undefined) {
        // Either another process destroyed the object or the token is empty: the next job shows which.
        this.#connection.replicas.delete(this.#canary);
        isMissing = true;
      } else if (code !== undefined && verdictOn(code, policy.verdicts) === 'session' && !isRenewed) {
        isRenewed = true;
        if (!(yield* this.#renew())) return { kind: 'hung' };
      } else {
        return result;
      }
    }
  }

  /** Renews the login; false if the renewal hangs. */
  *#renew(): Task<boolean> {
    const renewal = renewLogin(this.#group, this.#member, this.#connection);
    while (!renewal.completed) {
      if (this.#hangs.look() !== undefined) return false;
      yield* race([renewal, this.#connection.alarm, this.#connection.ended], this.#hangs.nextLookAt);
    }
    return true;
  }

  *#ask(isMissing: boolean): Task<ProbeResult> {
    const connection = this.#connection;
    const ticket = connection.submit(this.#job(isMissing), 'probe', FOREVER);
    while (!ticket.completed) {
      if (this.#hangs.look() !== undefined) return { kind: 'hung' };
      yield* race([ticket, connection.alarm], this.#hangs.nextLookAt);
    }
    return this.#read(ticket, isMissing);
  }

  /** `isMissing`: an object was gone; if no other object is known, the job looks for any object. */
  #job(isMissing: boolean): Job {
    const steps = [step('C_GetTokenInfo', this.#connection.slot), step('C_GetSessionInfo')];
    this.#canary = undefined;
    for (const [object, replica] of this.#connection.replicas) {
      if (replica.kind !== 'usable') continue;
      this.#canary = object;
      steps.push(step('C_GetAttributeValue', replica.handle, [CKA.label]));
      break;
    }
    if (this.#canary === undefined && isMissing) steps.push(step('X_Find', [], 1, []));
    // A new session, so that the probe also shows if the token still opens sessions.
    return { steps, onNewSession: true };
  }

  #read(ticket: Ticket, isMissing: boolean): ProbeResult {
    const { outcome } = ticket;
    const failure = outcome === undefined ? undefined : failureOf(outcome);
    if (failure?.kind === 'code') return failed(`${failure.function} answered ${codeName(failure.code)}`, failure.code);
    if (outcome?.kind !== 'reply')
      return failed(outcome?.kind === 'lost' ? outcome.reason : 'the member does not answer');
    const { serialNumber } = resultOf(outcome.reply, 0, 'C_GetTokenInfo');
    if (serialNumber !== this.#member.serial) return failed(`the slot holds another token: serial ${serialNumber}`);
    const { state } = resultOf(outcome.reply, 1, 'C_GetSessionInfo');
    if (this.#group.ledger.record !== undefined && !this.#member.recovery.isOfGroup && !this.#group.isBeingCreated)
      return failed('the token has no group record');
    if (this.#group.pin !== undefined && !loggedInStates.has(state))
      return failed('the token has lost the login', CKR.userNotLoggedIn);
    const isEmpty = isMissing && this.#canary === undefined && resultOf(outcome.reply, 2, 'X_Find').length === 0;
    return isEmpty ? failed('the objects of the token are gone') : { kind: 'well' };
  }
}
