import type { Attribute } from '../../spec/attribute.js';
import { CKA, CKO, CKR } from '../../spec/codes.js';
import { step } from '../../spec/job.js';
import { recordOf } from '../administration/membership.js';
import { TokenError } from '../base/error.js';
import type { ObjectSummary } from '../base/event.js';
import type { Task } from '../base/task.js';
import { runCall } from '../call/call.js';
import { findObjects } from '../call/find.js';
import { runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import { Progress } from '../group/progress.js';
import { knownAliasRecord } from '../group/record-learning.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import { InstalledReplicaReader, type PlannedReplica } from '../jobs/installation.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { addWrapping, unwrapInputsOf, wrapMethodOf } from '../jobs/key-wrapping.js';
import type { MemberJob } from '../jobs/member-job.js';
import { readAttributes } from '../jobs/operation.js';
import { forgottenTypes, statedTypes } from '../objects/attribute-sets.js';
import { isProvenByIdentity, templateOf } from '../objects/identity.js';
import type { Wrapped } from '../objects/key-note.js';
import { attributesOf, noteAttributes, noteObject } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { GroupRecord } from '../records/record.js';
import { relearnKeyRecord } from '../replicas/key-record.js';
import { establishReference } from '../replicas/reference.js';
import { describeObject, planPublicReplica, valuesIn } from '../replication/replica-copy.js';
import { installDomainKey } from '../wrapping/domain-installation.js';
import type { GeneratedDomainKey } from '../wrapping/domain-key.js';
import { openTemplate } from '../wrapping/resealing.js';
import { checkStorage } from '../wrapping/storage-check.js';
import { asOnlyMember, type BackupHead, type BackupRecord, backupLabels } from './backup-record.js';
import { addOpening, addRecord, type BackupLocation, BackupToken } from './backup-token.js';
import { openTransferKey, type RewrapJob, rewrap } from './backup-transfer-key.js';

/** Attributes that an application may set to false for good. */
const lateTypes: readonly number[] = [CKA.copyable, CKA.destroyable];

interface BackupOptions {
  /** Treatment of a group's records, or of another group's backup, on the token: `remove`; undefined: refuse. */
  readonly existing?: 'remove' | undefined;
}

/** Result of `backup`. */
export interface BackupReport {
  /** Number of objects in the backup, with keys. */
  readonly objects: number;
  /** Number of secret and private keys in the backup. */
  readonly keys: number;
  /** Keys that are not in the backup: they are not extractable, and no sealed form was kept. */
  readonly left: readonly ObjectSummary[];
}

/** Throws if the vendor's own tool copies the group's keys. */
export function checkCarriable(group: Group, method: string): void {
  if (group.policy.replication === 'external')
    throw new TokenError(
      CKR.functionNotSupported,
      method,
      "policy.replication is external: back up and restore keys with the vendor's own tool",
    );
}

/** Backs up all token objects of the group on a token that is no member. */
export function* backUp(
  group: Group,
  location: BackupLocation,
  { existing }: BackupOptions,
  deadline: number,
): Task<BackupReport> {
  const record = recordOf(group);
  checkCarriable(group, 'backup');
  const token: BackupToken = yield* BackupToken.open(group, location, 'backup', deadline);
  try {
    yield* token.clearFor(record.id, existing);
    const former = (yield* token.heads()).slice(0, 1).map(({ head }) => head);
    yield* token.tidy(former);
    yield* checkStorage(group, token.member, deadline);
    const transport = yield* token.transport(former[0]?.transport);
    const generated = yield* openTransferKey(group, transport, deadline);
    const form = generated.forms.get(token.serial) ?? new Uint8Array();
    const wrapped = { transport, note: generated.note, form, salt: group.salt };
    yield* installDomainKey(group, token.member, wrapped, deadline, backupLabels);
    const backup = new Backup(group, token, generated, asOnlyMember(record, transport, generated.note));
    yield* backup.run();
    const head: BackupHead = {
      kind: 'backup head',
      group: record.id,
      label: record.label,
      salt: record.salt,
      domain: generated.note,
      wrap: record.wrap,
      wrapsOddLengths: record.wrapsOddLengths,
      transport,
      count: backup.objects,
      // Later than the former head, even if the clocks of two machines differ: the newest head counts.
      time: Math.max(group.nextTimestamp(), (former[0]?.time ?? 0) + 1),
    };
    if ((yield* token.recordsOf(generated.note.id)).length !== backup.objects)
      token.refuse(
        CKR.deviceError,
        'records of the backup are missing: does another process write on the token? Repeat the call',
      );
    yield* token.writeHead(head);
    yield* token.tidy([head]);
    return { objects: backup.objects, keys: backup.keys, left: backup.left };
  } finally {
    token.close();
  }
}

/** Backup under way; the id of its key is part of its records' labels. */
class Backup {
  objects = 0;
  keys = 0;
  readonly left: ObjectSummary[] = [];

  constructor(
    readonly group: Group,
    readonly token: BackupToken,
    readonly generated: GeneratedDomainKey,
    readonly outside: GroupRecord,
  ) {}

  *run(): Task<void> {
    const { group, token } = this;
    const all = yield* findObjects(group, [], token.deadline);
    const objects = all.filter(({ description, session }) => description.token && session === undefined);
    const progress = new Progress(group, token.member.name, 'backing up', objects.length);
    for (const object of objects) {
      try {
        yield* this.#backUp(object);
      } catch (error) {
        if (!(yield* this.#isGone(object, error))) throw error;
      }
      progress.advance();
    }
    progress.finish();
  }

  /** Returns true if another process destroyed the object before it was backed up. */
  *#isGone(object: VirtualObject, error: unknown): Task<boolean> {
    if (!(error instanceof TokenError)) return false;
    if (error.code !== CKR.objectHandleInvalid && error.code !== CKR.keyHandleInvalid) return false;
    const found = yield* findObjects(this.group, templateOf(object.description), this.token.deadline);
    return !found.includes(object);
  }

  *#backUp(object: VirtualObject): Task<void> {
    const { group, token } = this;
    const { deadline } = token;
    yield* relearnKeyRecord(group, object);
    if (!object.referenced && !isProvenByIdentity(object.description))
      yield* establishReference(group, object, new PendingWork());
    yield* describeObject(group, object, deadline);
    const isSecret = isSecretRequest(object.description);
    const record: BackupRecord = {
      kind: 'backup',
      note: noteObject(object),
      template: noteAttributes(isSecret ? yield* this.#templateOf(object) : yield* this.#publicTemplateOf(object)),
      answers: isSecret ? yield* this.#answersOf(object) : [],
      wrapped: undefined,
      sealed: object.record?.sealed !== undefined,
      alias: knownAliasRecord(group, object.handle) !== undefined,
    };
    if (!isSecret) yield* this.#write(record);
    else if (yield* this.#backUpKey(object, record)) this.keys += 1;
    else {
      this.left.push(object.summary);
      return;
    }
    this.objects += 1;
  }

  *#read(object: VirtualObject, types: readonly number[]): Task<readonly Attribute[]> {
    return valuesIn(types, yield* runCall(this.group, readAttributes(object, types), this.token.deadline));
  }

  /** Attributes that the object has as false for good. */
  *#refusalsOf(object: VirtualObject): Task<readonly Attribute[]> {
    return (yield* this.#read(object, lateTypes)).filter(({ value }) => value[0] === 0);
  }

  *#templateOf(object: VirtualObject): Task<readonly Attribute[]> {
    const { record } = object;
    const template =
      record === undefined || record === null
        ? [
            ...(yield* this.#read(object, [CKA.class, CKA.keyType, ...statedTypes])),
            ...(yield* this.#refusalsOf(object)),
          ]
        : attributesOf(record.template);
    return template.filter(({ type }) => type !== CKA.token);
  }

  *#publicTemplateOf(object: VirtualObject): Task<readonly Attribute[]> {
    const planned = yield* planPublicReplica(this.group, object, this.token.deadline);
    if (planned === undefined) throw new TokenError(CKR.objectHandleInvalid, 'backup', `${object.label} was not found`);
    return [...planned.template, ...(yield* this.#refusalsOf(object))];
  }

  *#answersOf(object: VirtualObject): Task<BackupRecord['answers']> {
    return object.record?.answers ?? noteAttributes(yield* this.#read(object, forgottenTypes));
  }

  /** Wraps a key for the token and writes its record; returns false if the token cannot unwrap the key. */
  *#backUpKey(object: VirtualObject, record: BackupRecord): Task<boolean> {
    const { description } = object;
    const [length] = yield* this.#read(object, [CKA.valueLen]);
    const method = wrapMethodOf(this.outside, description, length?.value);
    // If a secret key comes out of the first method as another key, the second method may do.
    const isSecretKey = description.class === CKO.secretKey;
    const methods = method === 'domain' && isSecretKey ? ([method, 'transports'] as const) : [method];
    for (const each of methods) {
      const wrapped = yield* rewrap(
        this.group,
        this.generated,
        (member) => this.#rewrapJob(object, record, each, member.serial),
        this.token.deadline,
      );
      if (wrapped !== undefined && (yield* this.#writeKey(object, { ...record, wrapped }, wrapped))) return true;
    }
    return false;
  }

  /** Job that wraps the key for the token: from its sealed form if there is one, else from the member's replica. */
  #rewrapJob(
    object: VirtualObject,
    record: BackupRecord,
    method: 'domain' | 'transports',
    serial: string | undefined,
  ): RewrapJob<Wrapped> | undefined {
    const sealed = object.record?.sealed;
    if (sealed === undefined)
      return {
        objects: [object],
        addSteps: (builder, transferKey, [handle = new Uint8Array(8)]) =>
          addWrapping(builder, this.outside, method, transferKey, handle),
      };
    const unwrapInputs = unwrapInputsOf(this.group.ledger, sealed, serial);
    if (unwrapInputs === undefined) return undefined;
    return {
      objects: [unwrapInputs.key],
      addSteps: (builder, transferKey, [handle = new Uint8Array(8)]) => {
        const { mechanism, blob } = unwrapInputs;
        const opened = builder.add(step('C_UnwrapKey', mechanism, handle, blob, openTemplate(record)));
        const read = addWrapping(builder, this.outside, method, transferKey, { step: opened });
        builder.add(step('C_DestroyObject', { step: opened }));
        return read;
      },
    };
  }

  *#write(record: BackupRecord): Task<void> {
    const builder = new JobBuilder();
    addRecord(builder, this.generated.note.id, record);
    yield* this.token.run({ function: 'C_CreateObject', objects: [], job: () => builder });
  }

  /** Unwraps the key on the token as a restore would, and writes the record if it is the right key. */
  *#writeKey(object: VirtualObject, record: BackupRecord, wrapped: Wrapped): Task<boolean> {
    const { group, token, outside } = this;
    const [transport] = outside.members;
    if (transport === undefined) return false;
    let reader: InstalledReplicaReader | undefined;
    const memberJob: MemberJob = {
      function: 'C_UnwrapKey',
      objects: [],
      job: () => {
        const builder = new JobBuilder();
        const opened = addOpening(builder, { wrap: outside.wrap, domain: outside.domain, transport }, record, wrapped);
        const template = attributesOf(record.template);
        const planned: PlannedReplica = { object, origin: { kind: 'unwrapped', wrapped }, template, token: true };
        reader = new InstalledReplicaReader(group, planned, builder, { step: opened });
        builder.add(step('C_DestroyObject', { step: opened }));
        return builder;
      },
    };
    const end = yield* runOnMember(group, token.member, memberJob, token.deadline);
    // A key that the token cannot unwrap could not be restored.
    if (end.kind === 'refused') return false;
    if (end.kind !== 'done') throw token.lost(end.record);
    if (reader?.judge(end.reply) === false) return false;
    yield* this.#write(record);
    return true;
  }
}
