import { CKA, CKK, CKO, CKR } from '../../spec/codes.js';
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
import { addWrapping, oaep, unwrapInputsOf, wrapMechanism, wrapMethodFor } from '../jobs/key-wrapping.js';
import type { MemberJob } from '../jobs/member-job.js';
import type { KeyRecord, ProofKind, Wrapped } from '../objects/key-note.js';
import { attributesOf, fromHex, noteObject, objectOf } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { AliasRecord, AnyRecord } from '../records/record.js';
import { placeObject } from '../replication/creation.js';
import {
  addProofs,
  type GeneratedDomainKey,
  ownTransportTemplate,
  transferKeyTemplate,
} from '../wrapping/domain-key.js';
import { openTemplate } from '../wrapping/resealing.js';
import { addOpening, checkCarriable } from './backup.js';
import { type BackupHead, type BackupRecord, backupLabels } from './backup-record.js';
import { type BackupLocation, BackupToken } from './backup-token.js';
import { openTransferKey, rewrap } from './backup-transfer-key.js';
import { RestorePlanner } from './restore-plan.js';

/** So many records are read at a time. */
const BATCH = 64;
/** One object is waited for so many times `hangAfter`, besides its write. */
const PLACE_MULTIPLE = 5;

export interface RestoreReport {
  /** How many objects were put into the group. */
  readonly restored: number;
  /** How many were there already. */
  readonly present: number;
  /** What could not be restored, and why. Nothing that is there was touched. */
  readonly failed: readonly { readonly object: ObjectSummary; readonly reason: string }[];
}

/** Why one object cannot be restored; the others can. */
class Obstacle extends Error {}

/** Puts what a backup holds into the group: each object under the handle that it had. */
export function* restoreBackup(group: Group, place: BackupLocation, deadline: number): Task<RestoreReport> {
  recordOf(group);
  checkCarriable(group, 'restore');
  const token: BackupToken = yield* BackupToken.open(group, place, 'restore', deadline);
  try {
    const [newest] = yield* token.heads();
    if (newest === undefined)
      token.refuse(CKR.dataInvalid, 'the token holds no backup that was finished: back up to it again');
    const { head } = newest;
    const handles = yield* token.recordsOf(head.domain.id);
    const records: BackupRecord[] = [];
    for (let from = 0; from < handles.length; from += BATCH)
      records.push(...(yield* token.readRecords(handles.slice(from, from + BATCH))));
    if (records.length !== head.count)
      token.refuse(CKR.dataInvalid, `the backup says that it has ${head.count} objects, and has ${records.length}`);
    const passage = yield* openTransferKey(group, head.transport, deadline);
    return yield* new Restoring(group, token, head, passage, records).run();
  } finally {
    token.close();
  }
}

/** A key on its way: as the members can open it, and what proves it in this group. */
interface Arrived {
  readonly wrapped: Wrapped;
  readonly proofs: ReadonlyMap<ProofKind, Uint8Array>;
}

const nothing = new Uint8Array(8);

class Restoring {
  restored = 0;
  present = 0;
  readonly failed: { readonly object: ObjectSummary; readonly reason: string }[] = [];
  /** Proofs in the records were taken with that. */
  readonly salt: Uint8Array;

  constructor(
    readonly group: Group,
    readonly token: BackupToken,
    readonly head: BackupHead,
    readonly passage: GeneratedDomainKey,
    readonly records: readonly BackupRecord[],
  ) {
    this.salt = fromHex(head.salt);
  }

  *run(): Task<RestoreReport> {
    const { group, token, records } = this;
    // Everything is met, so that it is known which handles are taken.
    yield* findObjects(group, [], token.deadline);
    const placement = new RestorePlanner(group, records, token.deadline);
    const progress = new Progress(group, token.member.name, 'restoring', records.length);
    for (const record of records) {
      const object = objectOf(record.note);
      try {
        yield* this.#restore(placement, record, object);
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

  /** Why one object could not be restored; undefined where none of the others could be either. */
  #reasonOf(error: unknown): string | undefined {
    if (error instanceof Obstacle) return error.message;
    const { group, token } = this;
    const goesOn = token.isThere && group.port.now() < token.deadline && group.members.some(({ isActive }) => isActive);
    if (!(error instanceof TokenError) || !goesOn || error.code === CKR.deviceRemoved) return undefined;
    return error.message === '' ? codeName(error.code) : error.message;
  }

  *#restore(placement: RestorePlanner, record: BackupRecord, loose: VirtualObject): Task<void> {
    const isSecret = isSecretRequest(loose.description);
    let arrived: Arrived | undefined;
    if (isSecret) {
      if (record.wrapped === undefined) throw new Obstacle('the backup has no form of the key');
      const sent = yield* this.#send(record, loose, record.wrapped);
      arrived = yield* this.#receive(record, loose, sent);
    }
    const proofs = arrived?.proofs ?? new Map<ProofKind, Uint8Array>();
    const placed = yield* placement.find(record, loose, proofs);
    if (placed.kind === 'present') {
      this.present += 1;
      return;
    }
    if (placed.kind === 'conflict') throw new Obstacle(placed.reason);
    const { object, aliases } = placed;
    const planned: PlannedReplica = {
      object,
      origin: arrived === undefined ? { kind: 'created' } : { kind: 'unwrapped', wrapped: arrived.wrapped },
      template: attributesOf(record.template),
      token: true,
    };
    const { port, policy } = this.group;
    const until = Math.min(this.token.deadline, port.now() + policy.hangAfter * PLACE_MULTIPLE + policy.writeHangAfter);
    const recordsFor = (operation: string): readonly AnyRecord[] =>
      this.#recordsOf(record, object, aliases, arrived, operation);
    yield* placeObject(this.group, 'restore', planned, recordsFor, until);
    this.restored += 1;
  }

  #recordsOf(
    { template, answers, sealed }: BackupRecord,
    object: VirtualObject,
    aliases: readonly AliasRecord[],
    arrived: Arrived | undefined,
    operation: string,
  ): readonly AnyRecord[] {
    if (arrived === undefined) return aliases;
    const { group } = this;
    const own: KeyRecord = {
      kind: 'key',
      note: noteObject(object),
      template,
      answers,
      sealed: sealed ? arrived.wrapped : undefined,
      operation,
      writer: group.port.writer,
      time: group.nextTimestamp(),
    };
    object.record = own;
    return [...aliases, own];
  }

  /** On the backup's token: opens a key for the moment of a job, and wraps it for the group. */
  *#send(record: BackupRecord, loose: VirtualObject, wrapped: Wrapped): Task<Wrapped> {
    const { group, token, head, passage } = this;
    const { transport } = head;
    const own = recordOf(group);
    const form = passage.forms.get(transport.serial) ?? new Uint8Array();
    const way = this.#wayOf(record, loose, wrapped);
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
          this.#pieceOf(record, loose, wrapped),
          builder,
          { step: opened },
          this.salt,
        );
        read = addWrapping(builder, { ...own, domain: passage.note }, way, { step: transferKey }, { step: opened });
        builder.add(step('C_DestroyObject', { step: opened }), step('C_DestroyObject', { step: transferKey }));
        return builder;
      },
    };
    const end = yield* runOnMember(group, token.member, memberJob, token.deadline);
    if (end.kind === 'refused') throw new Obstacle(`the backup's token cannot open it: ${codeName(end.code)}`);
    if (end.kind !== 'done') throw token.lost(end.record);
    if (reader?.judge(end.reply) === false) throw new Obstacle("it came out as another key on the backup's token");
    const sent = read(end.reply);
    if (sent === undefined) throw new Obstacle("the backup's token cannot wrap it for the members");
    return sent;
  }

  #wayOf({ answers }: BackupRecord, { description }: VirtualObject, wrapped: Wrapped): 'domain' | 'transports' {
    if (!('domain' in wrapped)) return 'transports';
    const isGeneric = description.class === CKO.secretKey && description.type === CKK.genericSecret;
    const length = answers.find(([type]) => type === CKA.valueLen)?.[1];
    const known = length?.length === 16 ? Number(Buffer.from(length, 'hex').readBigUInt64LE()) : 0;
    return wrapMethodFor(recordOf(this.group), isGeneric, known === 0 ? undefined : known);
  }

  #pieceOf({ template }: BackupRecord, object: VirtualObject, wrapped: Wrapped): PlannedReplica {
    return { object, origin: { kind: 'unwrapped', wrapped }, template: attributesOf(template), token: true };
  }

  /** On a member: opens it likewise, proves that it is the key of then, and what proves it from now on. */
  *#receive(record: BackupRecord, loose: VirtualObject, sent: Wrapped): Task<Arrived> {
    const { group, token, passage } = this;
    const { ledger } = group;
    const own = recordOf(group);
    const mechanism = wrapMechanism(own);
    const received = yield* rewrap<Arrived & { readonly isRight: boolean }>(
      group,
      passage,
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
            const planned = this.#pieceOf(record, loose, sent);
            const reader = new InstalledReplicaReader(group, planned, builder, { step: opened }, this.salt);
            const readProofs = addProofs(builder, group.salt, { step: opened }, loose.description);
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
    if (received === undefined) throw new Obstacle('no member can open it');
    if (!received.isRight) throw new Obstacle('it came out as another key on a member');
    // What signatures are checked with has nothing to do with the salt.
    const point = loose.reference.get('signature');
    const proofs = new Map(received.proofs);
    if (point !== undefined) proofs.set('signature', point);
    return { wrapped: received.wrapped, proofs };
  }
}
