import { findObjects } from '../../../core/call/find.js';
import type { VirtualObject } from '../../../core/objects/object.js';
import { proveReplicas } from '../../../core/status/replica-status.js';
import { type Attribute, ulongBytes } from '../../../spec/attribute.js';
import { CKA, CKO } from '../../../spec/codes.js';
import { findConstant, namesOf } from '../../../spec/constants.js';
import { type CommandSpec, idOf, textOf } from '../command.js';
import { EXIT } from '../exit-code.js';
import { UsageError } from '../failure.js';
import { WORK_WITHIN } from '../shell.js';
import type { Output } from '../terminal/output.js';

const classes = namesOf('CKO_');
const keyTypes = namesOf('CKK_');
const certificateTypes = namesOf('CKC_');

type Options = Readonly<Record<string, unknown>>;

function nameIn(names: ReadonlyMap<number, string>, value: number): string {
  return names.get(value) ?? `0x${value.toString(16)}`;
}

function constantOf(option: string, prefix: string, name: string): number {
  const found = findConstant(`${prefix}${name.toUpperCase().replaceAll('-', '_')}`);
  if (found === undefined)
    throw new UsageError(`--${option}: there is no ${prefix}${name}`, 'give a name such as AES, RSA or PRIVATE_KEY');
  return found;
}

/** Makes the template that `--class`, `--type`, `--label` and `--id` ask for. */
function templateOf(options: Options): readonly Attribute[] {
  const template: Attribute[] = [];
  const [ofClass, type, label] = ['class', 'type', 'label'].map((name) => textOf(options, name));
  if (ofClass !== undefined)
    template.push({ type: CKA.class, value: ulongBytes(constantOf('class', 'CKO_', ofClass)) });
  if (type !== undefined) template.push({ type: CKA.keyType, value: ulongBytes(constantOf('type', 'CKK_', type)) });
  if (label !== undefined) template.push({ type: CKA.label, value: Buffer.from(label) });
  const id = idOf(options);
  if (id !== undefined) template.push({ type: CKA.id, value: id });
  return template;
}

/** Object as it is shown. */
export interface ShownObject {
  readonly handle: number;
  readonly class: string;
  readonly type: string;
  readonly label: string;
  readonly id: string;
  readonly members: Readonly<Record<string, string>>;
}

/** Describes an object for output. */
export function shownObject({ summary, description, replicaStatus }: VirtualObject): ShownObject {
  const types = description.class === CKO.certificate ? certificateTypes : keyTypes;
  return {
    ...summary,
    class: nameIn(classes, description.class),
    type: Number.isNaN(description.type) ? '' : nameIn(types, description.type),
    members: Object.fromEntries(replicaStatus),
  };
}

const marks: Readonly<Record<string, string>> = {
  proven: 'proven',
  unproven: 'there',
  misaligned: 'OTHER KEY',
  absent: 'MISSING',
};

function show(output: Output, slots: readonly Slot[], objects: readonly ShownObject[]): void {
  output.table(
    ['slot', 'token', 'serial', 'state'],
    slots.map(({ slot, token, serial, state }) => [slot, token, serial, state]),
  );
  output.line();
  const members = slots.slice(1).map(({ slot }) => slot);
  output.table(
    ['handle', 'class', 'type', 'label', 'id', ...members],
    objects.map(({ handle, class: ofClass, type, label, id, members: statuses }) => [
      String(handle),
      ofClass,
      type,
      label,
      id,
      ...members.map((name) => {
        const status = statuses[name];
        if (status === undefined) return '?';
        const mark = marks[status] ?? status;
        return output.paint(status === 'proven' ? 'green' : status === 'unproven' ? 'yellow' : 'red', mark);
      }),
    ]),
  );
  if (objects.length === 0) output.line('no objects');
}

interface Slot {
  readonly slot: string;
  readonly token: string;
  readonly serial: string;
  readonly state: string;
}

export const objects: CommandSpec = {
  usage: 'objects',
  summary: 'list the slots, the objects, and the members that have them',
  description:
    'The first slot is the virtual one; its handles are the same in every process. For each member the table shows `proven` if the ' +
    'object was shown to be the group’s, `there` if that cannot be proven, `MISSING`, `OTHER KEY`, or `?` if the member is away.',
  options: [
    { flags: '--class <name>', description: 'only this class: PRIVATE_KEY, PUBLIC_KEY, SECRET_KEY, CERTIFICATE, DATA' },
    { flags: '--type <name>', description: 'only keys of this type: AES, RSA, EC, …' },
    { flags: '--label <text>', description: 'only objects with this label' },
    { flags: '--id <hex>', description: 'only objects with this CKA_ID' },
    { flags: '--no-proof', description: 'do not prove keys; faster if there are many' },
  ],
  examples: ['pkcs11-ha objects', 'pkcs11-ha objects --class SECRET_KEY', 'pkcs11-ha objects --label default --json'],
  shape:
    '{ slots: [{ slot, token, serial, state }], objects: [{ handle, class, type, label, id, members: { name: "proven" | "unproven" | "misaligned" | "absent" } }] }',
  run: async (shell, _args, options) => {
    const template = templateOf(options);
    return await shell.withGroup(async (open) => {
      const { group } = open;
      const until = open.now() + WORK_WITHIN;
      const found = await open.run(findObjects(group, template, until), shell.signal);
      if (options.proof !== false) await open.run(proveReplicas(group, found, until), shell.signal);
      const shown = found.map(shownObject);
      const slots: Slot[] = [
        { slot: 'HA Virtual Card Slot', token: group.label, serial: group.serial, state: 'virtual' },
        ...group.members.map(({ name, token, serial, state }) => ({
          slot: name,
          token: token?.label ?? '?',
          serial: serial ?? '?',
          state: state.name,
        })),
      ];
      shell.output.give({ slots, objects: shown }, () => show(shell.output, slots, shown));
      const isWhole = shown.every(({ members }) =>
        Object.values(members).every((status) => status !== 'absent' && status !== 'misaligned'),
      );
      return isWhole ? shell.codeOf(open) : EXIT.degraded;
    });
  },
};
