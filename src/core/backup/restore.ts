import { CKA, CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { step } from '../../spec/job.js';
import { recordOf } from '../administration/membership.js';
import { TokenError } from '../base/error.js';
import type { ObjectSummary } from '../base/event.js';
import type { Task } from '../base/task.js';
import { findObjects } from '../call/find.js';
import { runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { Progress } from '../group/progress.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import { InstalledReplicaReader, type PlannedReplica } from '../jobs/installation.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { addWrapping, oaep, unwrapInputsOf, wrapMechanism, wrapMethodOf } from '../jobs/key-wrapping.js';
import type { MemberJob } from '../jobs/member-job.js';
import type { KeyRecord, ProofKind, Wrapped } from '../objects/key-note.js';
import { attributesOf, fromHex, noteObject, objectOf } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { AliasRecord, AnyRecord } from '../records/record.js';
import { placeObject } from '../replication/creation.js';
import { shownIdentity } from '../replication/creation-plan.js';
import {
  addProofs,
  type GeneratedDomainKey,
  ownTransportTemplate,
  transferKeyTemplate,
} from '../wrapping/domain-key.js';
import { openTemplate } from '../wrapping/resealing.js';
import { checkCarriable } from './backup.js';
import { type BackupHead, type BackupRecord, backupLabels } from './backup-record.js';
import { addOpening, type BackupLocation, BackupToken } from './backup-token.js';
import { openTransferKey, rewrap } from './backup-transfer-key.js';
import { RestorePlanner } from './restore-plan.js';

/** Maximum number of records that one job reads. */
const BATCH = 64;
/** Multiple of `hangAfter` that the creation of an object may take, besides its write. */
const CREATE_MULTIPLE = 5;

/** Result of `restore`. */
export interface RestoreReport {
  /** Number of objects that were restored. */
  readonly restored: number;
  /** Number of objects that the group already had. */
  readonly present: number;
  /** Objects that could not be restored, with the reasons. Objects of the group are never changed. */
  readonly failed: readonly { readonly object: ObjectSummary; readonly reason: string }[];
}

/** Reason for one object that cannot be restored, while others can. */
class Obstacle extends Error {}

/** Restores the objects of a backup to the group, each under the handle that it had. */
export function* restoreBackup(group: Group, location: BackupLocation, deadline: number): Task<RestoreReport> {
  recordOf(group);
  checkCarriable(group, 'restore');
  const token: BackupToken = yield* BackupToken.open(group, location, 'restore', deadline);
  try {
    const [newest] = yield* token.heads();
    if (newest === undefined)
      token.refuse(CKR.dataInvalid, 'the token holds no backup that is complete: back up to it again');
    const { head } = newest;
    const handles = yield* token.recordsOf(head.domain.id);
    const records: BackupRecord[] = [];
    for (let from = 0; from < handles.length; from += BATCH)
      records.push(...(yield* token.readRecords(handles.slice(from, from + BATCH))));
    if (records.length !== head.count)
      token.refuse(
        CKR.dataInvalid,
        `the backup is incomplete: its head counts ${head.count} objects, the token has ${records.length}`,
      );
    const transfer = yield* openTransferKey(group, head.transport, deadline);
    return yield* new Restoration(group, token, head, transfer, records).run();
  } finally {
    token.close();
  }
}

/** Key that a member has received: wrapped for the group's members, with its proofs in this group. */
interface ReceivedKey {
  readonly wrapped: Wrapped;
  readonly proofs: ReadonlyMap<ProofKind, Uint8Array>;
}

const nothing = new Uint8Array(8);

/** Restoration under way. */
class Restoration {
  restored = 0;
  present = 0;
  readonly failed: { readonly object: ObjectSummary; readonly reason: string }[] = [];
  /** Salt of the proofs in the records. */
  readonly salt: Uint8Array;

  constructor(
    readonly group: Group,
    readonly token: BackupToken,
    readonly head: BackupHead,
    readonly transfer: GeneratedDomainKey,
    readonly records: readonly BackupRecord[],
  ) {
    this.salt = fromHex(head.salt);
  }

  *run(): Task<RestoreReport> {
    const { group, token, records } = this;
    // Find all objects of the group first, so that every handle in use is known.
    yield* findObjects(group, [], token.deadline);
    const planner = new RestorePlanner(group, records, token.deadline);
    const progress = new Progress(group, token.member.name, 'restoring', records.length);
    for (const record of records) {
      const object = objectOf(record.note);
      try {
        yield* this.#restore(planner, record, object);
      } catch (error) {
        const reason = this.#reasonOf(error);
        if (reason === undefined) throw error;
        this.failed.push({ object: object.summary, reason });
      }
      progress.advance();
    }
    progress.finish();
    return { restored: this.restored, present: this.present, failed: this.failed };
  }

  /** Reason for one object that could not be restored; undefined if no other object could be restored either. */
  #reasonOf(error: unknown): string | undefined {
    if (error instanceof Obstacle) return error.message;
    const { group, token } = this;
    const goesOn = token.isThere && group.port.now() < token.deadline && group.members.some(({ isActive }) => isActive);
    if (!(error instanceof TokenError) || !goesOn || error.code === CKR.deviceRemoved) return undefined;
    return error.message === '' ? codeName(error.code) : error.message;
  }

  *#restore(planner: RestorePlanner, record: BackupRecord, stored: VirtualObject): Task<void> {
    const isSecret = isSecretRequest(stored.description);
    let receivedKey: ReceivedKey | undefined;
    if (isSecret) {
      if (record.wrapped === undefined) throw new Obstacle('the backup does not hold the wrapped key');
      const sent = yield* this.#send(record, stored, record.wrapped);
      receivedKey = yield* this.#receive(record, stored, sent);
    }
    const proofs = receivedKey?.proofs ?? new Map<ProofKind, Uint8Array>();
    const plan = yield* planner.planFor(record, stored, proofs);
    if (plan.kind === 'present') {
      this.present += 1;
      return;
    }
    if (plan.kind === 'conflict') throw new Obstacle(plan.reason);
    const { object, aliases } = plan;
    const planned: PlannedReplica = {
      object,
      origin: receivedKey === undefined ? { kind: 'created' } : { kind: 'unwrapped', wrapped: receivedKey.wrapped },
      template: attributesOf(record.template),
      token: true,
    };
    const { port, policy } = this.group;
    const until = Math.min(
      this.token.deadline,
      port.now() + policy.hangAfter * CREATE_MULTIPLE + policy.writeHangAfter,
    );
    const recordsFor = (operation: string): readonly AnyRecord[] =>
      this.#recordsOf(record, object, aliases, receivedKey, operation);
    yield* placeObject(this.group, 'restore', planned, recordsFor, until);
    this.restored += 1;
  }

  #recordsOf(
    { template, answers, sealed }: BackupRecord,
    object: VirtualObject,
    aliases: readonly AliasRecord[],
    receivedKey: ReceivedKey | undefined,
    operation: string,
  ): readonly AnyRecord[] {
    if (receivedKey === undefined) return aliases;
    const { group } = this;
    const own: KeyRecord = {
      kind: 'key',
      note: noteObject(object),
      identity: shownIdentity(group, object),
      template,
      answers,
      sealed: sealed ? receivedKey.wrapped : undefined,
      operation,
      writer: group.coordinator.writer,
      time: group.nextTimestamp(),
    };
    object.record = own;
    return [...aliases, own];
  }

  /** Unwraps a key on the backup's token, within one job, and wraps it under the backup transfer key. */
  *#send(record: BackupRecord, stored: VirtualObject, wrapped: Wrapped): Task<Wrapped> {
    const { group, token, head, transfer } = this;
    const { transport } = head;
    const own = recordOf(group);
    const form = transfer.forms.get(transport.serial) ?? new Uint8Array();
    const method = this.#methodOf(record, stored, wrapped);
    let reader: InstalledReplicaReader | undefined;
    let read: ReturnType<typeof addWrapping> = () => undefined;
    const memberJob: MemberJob = {
      function: 'C_UnwrapKey',
      objects: [],
      job: () => {
        const builder = new JobBuilder();
        const pair = builder.add(step('X_Find', ownTransportTemplate(transport, backupLabels.transport), 1, []));
        const transferKey = builder.add(step('C_UnwrapKey', oaep, { step: pair }, form, transferKeyTemplate));
        const opened = addOpening(builder, head, record, wrapped);
        reader = new InstalledReplicaReader(
          group,
          this.#planOf(record, stored, wrapped),
          builder,
          { step: opened },
          this.salt,
        );
        read = addWrapping(builder, { ...own, domain: transfer.note }, method, { step: transferKey }, { step: opened });
        builder.add(step('C_DestroyObject', { step: opened }), step('C_DestroyObject', { step: transferKey }));
        return builder;
      },
    };
    const end = yield* runOnMember(group, token.member, memberJob, token.deadline);
    if (end.kind === 'refused') throw new Obstacle(`the backup's token cannot unwrap the key: ${codeName(end.code)}`);
    if (end.kind !== 'done') throw token.lost(end.record);
    if (reader?.judge(end.reply) === false) throw new Obstacle("the backup's token unwrapped another key");
    const sent = read(end.reply);
    if (sent === undefined) throw new Obstacle("the backup's token cannot wrap the key for the members");
    return sent;
  }

  #methodOf({ answers }: BackupRecord, { description }: VirtualObject, wrapped: Wrapped): 'domain' | 'transports' {
    if (!('domain' in wrapped)) return 'transports';
    const length = answers.find(([type]) => type === CKA.valueLen)?.[1];
    return wrapMethodOf(recordOf(this.group), description, length === undefined ? undefined : fromHex(length));
  }

  #planOf({ template }: BackupRecord, object: VirtualObject, wrapped: Wrapped): PlannedReplica {
    return { object, origin: { kind: 'unwrapped', wrapped }, template: attributesOf(template), token: true };
  }

  /** Unwraps a key on a member, checks it by the proofs of the backup, and reads its proofs in this group. */
  *#receive(record: BackupRecord, stored: VirtualObject, sent: Wrapped): Task<ReceivedKey> {
    const { group, token, transfer } = this;
    const { ledger } = group;
    const own = recordOf(group);
    const mechanism = wrapMechanism(own);
    const received = yield* rewrap<ReceivedKey & { readonly isRight: boolean }>(
      group,
      transfer,
      ({ serial }) => {
        const { domain } = ledger;
        const unwrapInputs = 'domain' in sent ? undefined : unwrapInputsOf(ledger, sent, serial);
        if (domain === undefined || (unwrapInputs === undefined && !('domain' in sent))) return undefined;
        return {
          objects: [domain, ...(unwrapInputs === undefined ? [] : [unwrapInputs.key])],
          addSteps: (builder, transferKey, [under = nothing, transport = nothing]) => {
            const open = openTemplate(record);
            const opened = builder.add(
              'domain' in sent
                ? step('C_UnwrapKey', mechanism, transferKey, fromHex(sent.blob), open)
                : step('C_UnwrapKey', oaep, transport, unwrapInputs?.blob ?? nothing, open),
            );
            const planned = this.#planOf(record, stored, sent);
            const reader = new InstalledReplicaReader(group, planned, builder, { step: opened }, this.salt);
            const readProofs = addProofs(builder, group.salt, { step: opened }, stored.description);
            const read =
              'domain' in sent
                ? addWrapping(builder, own, 'domain', under, { step: opened })
                : (): Wrapped | undefined => sent;
            builder.add(step('C_DestroyObject', { step: opened }));
            return (reply) => {
              const wrapped = read(reply);
              const isRight = reader.judge(reply) !== false;
              return wrapped === undefined ? undefined : { wrapped, proofs: readProofs(reply), isRight };
            };
          },
        };
      },
      token.deadline,
    );
    if (received === undefined) throw new Obstacle('no member can unwrap the key');
    if (!received.isRight) throw new Obstacle('a member unwrapped another key');
    // A proof by signature does not depend on the salt: keep that of the backup.
    const point = stored.reference.get('signature');
    const proofs = new Map(received.proofs);
    if (point !== undefined) proofs.set('signature', point);
    return { wrapped: received.wrapped, proofs };
  }
}
