import type { Attribute } from '../../spec/attribute.js';
import { type FoundObject, NO_MAXIMUM } from '../../spec/calls.js';
import { CKA, CKR } from '../../spec/codes.js';
import { type JobReply, resultOf, type SecretRef, type Step, step } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { AttemptRecord } from '../base/event.js';
import type { Task } from '../base/task.js';
import { isReachable, runOnMemberOrThrow } from '../call/member-job-run.js';
import type { MemberConfig } from '../configuration/configuration.js';
import type { Group } from '../group/group.js';
import { Member } from '../group/member.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { oaep, wrapMechanism } from '../jobs/key-wrapping.js';
import type { Login, MemberJob } from '../jobs/member-job.js';
import { endSpareHost, joinOnSpareHost } from '../joining/spare-host.js';
import type { Wrapped } from '../objects/key-note.js';
import { fromHex, hex } from '../objects/note.js';
import { findGroupwide, foundIn, ownKeyTemplate, probeTemplate, recordsIn } from '../records/ledger.js';
import type { MemberNote } from '../records/record.js';
import { keyRecordTemplate, recordTypes } from '../records/record-template.js';
import { domainTemplate, makeTransport, ownTransportTemplate } from '../wrapping/domain-key.js';
import { removeOwn } from '../wrapping/removal.js';
import { openTemplate } from '../wrapping/resealing.js';
import {
  type BackupHead,
  type BackupRecord,
  backupLabels,
  backupRecordTemplate,
  backupTemplate,
  headTemplate,
  readBackupRecord,
  runOf,
} from './backup-record.js';

/** Time within which the token must be reached (ms). */
const OPEN_WITHIN = 10_000;
/** Maximum number of objects that one job reads or destroys. */
const BATCH = 64;

/** Token that a backup is on; `pin` is undefined if the token has the group's PIN. */
export interface BackupLocation {
  readonly config: MemberConfig;
  readonly pin: SecretRef | undefined;
}

/** Head that was found on a token. */
interface FoundHead {
  readonly handle: Uint8Array;
  readonly head: BackupHead;
}

/** Token that holds backups. It runs on a spare host and is no member of the group. */
export class BackupToken {
  /** Login that the handles of the last find belong to. */
  #login: Login | undefined;

  private constructor(
    readonly group: Group,
    readonly member: Member,
    /** Call that the token was opened for. */
    readonly method: 'backup' | 'restore',
    readonly deadline: number,
  ) {}

  static *open(
    group: Group,
    { config, pin }: BackupLocation,
    method: 'backup' | 'restore',
    deadline: number,
  ): Task<BackupToken> {
    const member = new Member({ ...config, lanes: 1 }, group.port, group.timing, () => {});
    member.role.beginAdding();
    member.login.useOwn(pin);
    const token = new BackupToken(group, member, method, deadline);
    try {
      const until = Math.min(deadline, group.port.now() + OPEN_WITHIN);
      const failed = yield* joinOnSpareHost(group, member, until);
      if (failed !== undefined)
        token.refuse(failed.code ?? CKR.deviceRemoved, `the backup's token cannot be used: ${failed.reason}`);
      if (group.ledger.record?.members.some(({ serial }) => serial === member.serial) === true)
        token.refuse(CKR.actionProhibited, 'the token is a member of the group: choose another token for backups');
      return token;
    } catch (error) {
      token.close();
      throw error;
    }
  }

  close(): void {
    endSpareHost(this.member);
  }

  get serial(): string {
    return this.member.serial ?? '';
  }

  get isThere(): boolean {
    return isReachable(this.member);
  }

  refuse(code: number, explanation: string): never {
    throw new TokenError(code, this.method, explanation);
  }

  /** Returns the error for a token that was lost on the way. */
  lost(record: AttemptRecord): TokenError {
    const text = "the backup's token was lost: repeat the call to go on";
    return new TokenError(record.code ?? CKR.deviceRemoved, this.method, text, [record], record.member);
  }

  /** Throws if the token holds records of a group or a backup of another group; with `remove` removes them. */
  *clearFor(groupId: string, existing: 'remove' | undefined): Task<void> {
    const { group, member, deadline } = this;
    const reply = yield* this.#read([findGroupwide, step('X_Find', keyRecordTemplate(), 1, [])]);
    const records = recordsIn(group.ledger.trust, foundIn(reply, 0));
    if (records.newer)
      this.refuse(CKR.actionProhibited, 'a later version of pkcs11-ha has written records on the token');
    const isOfGroup = foundIn(reply, 0).length > 0 || foundIn(reply, 1).length > 0;
    const others = (yield* this.heads()).filter(({ head }) => head.group !== groupId);
    if (existing !== 'remove') {
      if (isOfGroup) {
        const label = records.group?.record.label ?? '';
        this.refuse(
          CKR.actionProhibited,
          `the token belongs to the group ${label}; existing: 'remove' removes its records and keys`,
        );
      }
      const [other] = others;
      if (other !== undefined)
        this.refuse(
          CKR.actionProhibited,
          `the token holds a backup of the group ${other.head.label}; existing: 'remove' removes it`,
        );
    }
    if (isOfGroup) yield* removeOwn(group, member, deadline);
    if (others.length > 0) yield* this.#destroy(others.map(({ handle }) => handle));
  }

  /** Reads the heads on the token, the newest first. */
  *heads(): Task<readonly FoundHead[]> {
    const heads: FoundHead[] = [];
    for (const { handle, attributes } of yield* this.#find(headTemplate, recordTypes)) {
      const head = readBackupRecord(attributes[0]?.value ?? new Uint8Array());
      if (head === 'newer')
        this.refuse(CKR.actionProhibited, 'a later version of pkcs11-ha has written a backup on the token');
      if (typeof head === 'object' && head.kind === 'backup head') heads.push({ handle: new Uint8Array(handle), head });
    }
    return heads.sort((a, b) => b.head.time - a.head.time);
  }

  /** Returns the transport key pair of the token: the pair of an existing backup, or a new one. */
  *transport(former: MemberNote | undefined): Task<MemberNote> {
    const { group, member, deadline } = this;
    if (former !== undefined && former.serial === this.serial) {
      const found = yield* this.#find(ownTransportTemplate(former, backupLabels.transport), []);
      if (found.length > 0) return former;
    }
    return yield* makeTransport(group, member, group.port.randomBytes(8), deadline, backupLabels.transport);
  }

  /** Finds the handles of a backup's records. */
  *recordsOf(run: string): Task<readonly Uint8Array[]> {
    const found = yield* this.#find(backupTemplate, [CKA.label]);
    return found
      .filter(({ attributes: [label] }) => runOf(label?.value ?? new Uint8Array()) === run)
      .map(({ handle }) => new Uint8Array(handle));
  }

  *readRecords(handles: readonly Uint8Array[]): Task<readonly BackupRecord[]> {
    const steps = handles.map((handle) => step('C_GetAttributeValue', handle, recordTypes));
    const reply = yield* this.#read(steps, this.#login);
    return steps.flatMap((_step, index) => {
      const [value] = resultOf(reply, index, 'C_GetAttributeValue');
      const record = readBackupRecord(value?.value ?? new Uint8Array());
      return typeof record === 'object' && record.kind === 'backup' ? [record] : [];
    });
  }

  /** Writes the head, which makes the backup valid. */
  *writeHead(head: BackupHead): Task<void> {
    const builder = new JobBuilder();
    addRecord(builder, head.domain.id, head);
    yield* this.#write(builder.steps);
  }

  /** Removes all heads, records and keys except those of the given backups: what is interrupted or replaced. */
  *tidy(valid: readonly BackupHead[]): Task<void> {
    const runs = new Set(valid.map(({ domain }) => domain.id));
    const transports = new Set(valid.map(({ transport }) => transport.transport));
    // Destroy the head first, so that an incomplete backup is never valid.
    const heads = (yield* this.heads()).filter(({ head }) => !runs.has(head.domain.id));
    yield* this.#destroy(heads.map(({ handle }) => handle));
    const idOf = ({ attributes: [id] }: FoundObject): string => hex(id?.value ?? new Uint8Array());
    const records = yield* this.#find(backupTemplate, [CKA.label]);
    const keys = yield* this.#find(ownKeyTemplate(backupLabels.domain), [CKA.id]);
    const pairs = yield* this.#find(ownKeyTemplate(backupLabels.transport), [CKA.id]);
    const probes = yield* this.#find(probeTemplate, []);
    const old = [
      ...records.filter(({ attributes: [label] }) => !runs.has(runOf(label?.value ?? new Uint8Array()))),
      ...keys.filter((key) => !runs.has(idOf(key))),
      ...pairs.filter((key) => !transports.has(idOf(key))),
      ...probes,
    ];
    yield* this.#destroy(old.map(({ handle }) => handle));
  }

  *#find(template: readonly Attribute[], types: readonly number[]): Task<readonly FoundObject[]> {
    const { connection } = this.member;
    const login = connection === undefined ? undefined : { connection, epoch: connection.epoch };
    this.#login = login;
    return resultOf(yield* this.#read([step('X_Find', template, NO_MAXIMUM, types)]), 0, 'X_Find');
  }

  *#read(steps: readonly Step[], login?: Login): Task<JobReply> {
    const job = { function: 'C_FindObjects', objects: [], isReading: true, job: () => ({ steps }) };
    return yield* this.run(login === undefined ? job : { ...job, login });
  }

  *#write(steps: readonly Step[]): Task<void> {
    yield* this.run({ function: 'C_CreateObject', objects: [], job: () => ({ steps }) });
  }

  *#destroy(handles: readonly Uint8Array[]): Task<void> {
    for (let from = 0; from < handles.length; from += BATCH) {
      const steps = handles.slice(from, from + BATCH).map((handle) => step('C_DestroyObject', handle));
      const memberJob: MemberJob = { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) };
      yield* this.run(this.#login === undefined ? memberJob : { ...memberJob, login: this.#login });
    }
  }

  /** Runs a member job on the token; throws unless the job succeeds. */
  run(memberJob: MemberJob): Task<JobReply> {
    return runOnMemberOrThrow(this.group, this.member, memberJob, this.deadline);
  }
}

/** Adds the steps that write a record; returns the index of the step that persists the record. */
export function addRecord(builder: JobBuilder, run: string, record: BackupRecord | BackupHead): number {
  const made = builder.add(step('C_CreateObject', backupRecordTemplate(run, record)));
  return builder.persist({ step: made });
}

/** Adds the steps that unwrap a key on the backup's token as a session object; returns the index of the unwrap step. */
export function addOpening(
  builder: JobBuilder,
  { wrap, transport, domain }: Pick<BackupHead, 'wrap' | 'transport' | 'domain'>,
  { template }: Pick<BackupRecord, 'template'>,
  wrapped: Wrapped,
): number {
  const open = openTemplate({ template });
  if ('domain' in wrapped) {
    const key = builder.add(step('X_Find', domainTemplate(domain.id, backupLabels.domain), 1, []));
    const mechanism = wrapMechanism({ wrap });
    return builder.add(step('C_UnwrapKey', mechanism, { step: key }, fromHex(wrapped.blob), open));
  }
  const blob = fromHex(wrapped.transports[transport.serial] ?? '');
  const key = builder.add(step('X_Find', ownTransportTemplate(transport, backupLabels.transport), 1, []));
  return builder.add(step('C_UnwrapKey', oaep, { step: key }, blob, open));
}
