import type { Attribute } from '../../spec/attribute.js';
import { CKA, CKK, CKO, CKR } from '../../spec/codes.js';
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
import { isSecretRequest } from '../jobs/creation-request.js';
import { InstalledReplicaReader, type PlannedReplica } from '../jobs/installation.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { addWrapping, oaep, unwrapInputsOf, wrapMechanism, wrapMethodFor } from '../jobs/key-wrapping.js';
import type { MemberJob } from '../jobs/member-job.js';
import { readAttributes } from '../jobs/operation.js';
import { forgottenTypes, statedTypes } from '../objects/attribute-sets.js';
import { isProvenByIdentity, templateOf } from '../objects/identity.js';
import type { Wrapped } from '../objects/key-note.js';
import { attributesOf, fromHex, noteAttributes, noteObject } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { GroupRecord } from '../records/record.js';
import { relearnKeyRecord } from '../replicas/key-record.js';
import { establishReference } from '../replicas/reference.js';
import { describeObject, planPublicReplica, valuesIn } from '../replication/replica-copy.js';
import {
  domainTemplate,
  type GeneratedDomainKey,
  installDomainKey,
  ownTransportTemplate,
} from '../wrapping/domain-key.js';
import { openTemplate } from '../wrapping/resealing.js';
import { checkStorage } from '../wrapping/storage-check.js';
import { type BackupHead, type BackupRecord, backupLabels, beyond } from './backup-record.js';
import { addRecord, type BackupLocation, BackupToken } from './backup-token.js';
import { openTransferKey, type RewrapJob, rewrap } from './backup-transfer-key.js';

/** What an object may be told to refuse for ever. */
const lateTypes: readonly number[] = [CKA.copyable, CKA.destroyable];

export interface BackupOptions {
  /** What to do with records of a group, or a backup of another group, on the token. */
  readonly existing?: 'remove' | undefined;
}

export interface BackupReport {
  /** How many objects the backup holds, keys too. */
  readonly objects: number;
  /** How many of them are secret or private keys. */
  readonly keys: number;
  /** Keys that could not be taken along: they cannot be taken out of a token, and no sealed form was kept. */
  readonly left: readonly ObjectSummary[];
}

/** Throws where the group's keys are not ours to carry. */
export function checkCarriable(group: Group, method: string): void {
  if (group.policy.replication === 'external')
    throw new TokenError(
      CKR.functionNotSupported,
      method,
      "with policy.replication: external keys are copied by the vendor's own tool, into backups too",
    );
}

/** Puts all that the group has on a token that is none of its members. */
export function* backUp(
  group: Group,
  place: BackupLocation,
  { existing }: BackupOptions,
  deadline: number,
): Task<BackupReport> {
  const record = recordOf(group);
  checkCarriable(group, 'backup');
  const token: BackupToken = yield* BackupToken.open(group, place, 'backup', deadline);
  try {
    yield* token.clearFor(record.id, existing);
    const former = (yield* token.heads()).slice(0, 1).map(({ head }) => head);
    yield* token.tidy(former);
    yield* checkStorage(group, token.member, deadline);
    const transport = yield* token.transport(former[0]?.transport);
    const generated = yield* openTransferKey(group, transport, deadline);
    const form = generated.forms.get(token.serial) ?? new Uint8Array();
    yield* installDomainKey(group, token.member, transport, generated.note, form, group.salt, deadline, backupLabels);
    const backup = new Backup(group, token, generated, beyond(record, transport, generated.note));
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
      // The newest counts, whatever the clocks of two machines say.
      time: Math.max(group.nextTimestamp(), (former[0]?.time ?? 0) + 1),
    };
    if ((yield* token.recordsOf(generated.note.id)).length !== backup.objects)
      token.refuse(CKR.deviceError, 'not all that was written is there: somebody else writes on the token');
    yield* token.writeHead(head);
    yield* token.tidy([head]);
    return { objects: backup.objects, keys: backup.keys, left: backup.left };
  } finally {
    token.close();
  }
}

/** One run of a backup: its records are named after its key. */
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
        yield* this.#take(object);
      } catch (error) {
        if (!(yield* this.#isGone(object, error))) throw error;
      }
      progress.advance();
    }
    progress.finish();
  }

  /** Somebody may destroy an object before its turn has come. */
  *#isGone(object: VirtualObject, error: unknown): Task<boolean> {
    if (!(error instanceof TokenError)) return false;
    if (error.code !== CKR.objectHandleInvalid && error.code !== CKR.keyHandleInvalid) return false;
    const found = yield* findObjects(this.group, templateOf(object.description), this.token.deadline);
    return !found.includes(object);
  }

  *#take(object: VirtualObject): Task<void> {
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
      alias: group.ledger.hasAliases(object.handle),
    };
    if (!isSecret) yield* this.#write(record);
    else if (yield* this.#takeKey(object, record)) this.keys += 1;
    else {
      this.left.push(object.summary);
      return;
    }
    this.objects += 1;
  }

  *#read(object: VirtualObject, types: readonly number[]): Task<readonly Attribute[]> {
    return valuesIn(types, yield* runCall(this.group, readAttributes(object, types), this.token.deadline));
  }

  /** What an object refuses for ever; where nothing is said it does not. */
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
    if (planned === undefined) throw new TokenError(CKR.objectHandleInvalid, 'backup', `${object.label} is not there`);
    return [...planned.template, ...(yield* this.#refusalsOf(object))];
  }

  *#answersOf(object: VirtualObject): Task<BackupRecord['answers']> {
    return object.record?.answers ?? noteAttributes(yield* this.#read(object, forgottenTypes));
  }

  /** Wraps a key for the token, and puts it there where it came out as the key that it is; false where it cannot be. */
  *#takeKey(object: VirtualObject, record: BackupRecord): Task<boolean> {
    const { description } = object;
    const isGeneric = description.class === CKO.secretKey && description.type === CKK.genericSecret;
    const [length] = yield* this.#read(object, [CKA.valueLen]);
    const known = length?.value.length === 8 ? Number(Buffer.from(length.value).readBigUInt64LE()) : 0;
    const way = wrapMethodFor(this.outside, isGeneric, known === 0 ? undefined : known);
    // What comes out of the first way as something else may travel the other way.
    const ways = way === 'domain' && description.class === CKO.secretKey ? ([way, 'transports'] as const) : [way];
    for (const each of ways) {
      const wrapped = yield* rewrap(
        this.group,
        this.generated,
        (member) => this.#crossing(object, record, each, member.serial),
        this.token.deadline,
      );
      if (wrapped !== undefined && (yield* this.#writeKey(object, { ...record, wrapped }, wrapped))) return true;
    }
    return false;
  }

  /** From its sealed form where there is one, else by taking the key out. */
  #crossing(
    object: VirtualObject,
    record: BackupRecord,
    way: 'domain' | 'transports',
    serial: string | undefined,
  ): RewrapJob<Wrapped> | undefined {
    const sealed = object.record?.sealed;
    if (sealed === undefined)
      return {
        objects: [object],
        addSteps: (builder, transferKey, [handle = new Uint8Array(8)]) =>
          addWrapping(builder, this.outside, way, transferKey, handle),
      };
    const unwrapInputs = unwrapInputsOf(this.group.ledger, sealed, serial);
    if (unwrapInputs === undefined) return undefined;
    return {
      objects: [unwrapInputs.key],
      addSteps: (builder, transferKey, [handle = new Uint8Array(8)]) => {
        const { mechanism, blob } = unwrapInputs;
        const opened = builder.add(step('C_UnwrapKey', mechanism, handle, blob, openTemplate(record)));
        const read = addWrapping(builder, this.outside, way, transferKey, { step: opened });
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

  /** Opens the key on the token as a restore would, and writes its record if it is the one. */
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
    // What the token cannot open is no backup.
    if (end.kind === 'refused') return false;
    if (end.kind !== 'done') throw token.lost(end.record);
    if (reader?.judge(end.reply) === false) return false;
    yield* this.#write(record);
    return true;
  }
}

/** Adds the steps that open a backed up key on the backup's token as a session object; gives the step that does. */
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
