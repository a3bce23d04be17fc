import { findObjects } from '../../../core/call/find.js';
import { findKey } from '../../../core/call/lookup.js';
import { type CreationRequest, requestGenerate, requestGeneratePair } from '../../../core/jobs/creation-request.js';
import type { VirtualObject } from '../../../core/objects/object.js';
import { createObjects } from '../../../core/replication/creation.js';
import { destroyObject } from '../../../core/replication/destruction.js';
import { ensureKey } from '../../../core/replication/ensured-key.js';
import type { OpenGroup } from '../../../runtime/groups/open-group.js';
import { CKO, CKR } from '../../../spec/codes.js';
import { encodeMechanism } from '../../../spec/mechanism.js';
import { encodeTemplate } from '../../../spec/template.js';
import { type CommandSpec, idOf } from '../command.js';
import { EXIT } from '../exit-code.js';
import { Failure, UsageError } from '../failure.js';
import { type KeyTrial, tryKey } from '../key-trial.js';
import { type Shell, WORK_WITHIN } from '../shell.js';
import { printable } from '../terminal/output.js';
import { type ShownObject, shownObject } from './objects.js';

interface KeyKind {
  readonly mechanism: string;
  readonly template: Readonly<Record<string, unknown>>;
  /** Template of the public half; undefined for secret keys. */
  readonly publicTemplate?: Readonly<Record<string, unknown>>;
}

const rsa = (modulusBits: number): KeyKind => ({
  mechanism: 'RSA_PKCS_KEY_PAIR_GEN',
  template: { sign: true, decrypt: true },
  publicTemplate: { modulusBits, publicExponent: Buffer.from([1, 0, 1]), verify: true, encrypt: true },
});
const ec = (parameters: string): KeyKind => ({
  mechanism: 'EC_KEY_PAIR_GEN',
  template: { sign: true, derive: true },
  publicTemplate: { paramsEC: Buffer.from(parameters, 'hex'), verify: true },
});
const aes = (valueLen: number): KeyKind => ({
  mechanism: 'AES_KEY_GEN',
  template: { valueLen, encrypt: true, decrypt: true, wrap: true, unwrap: true },
});

/** Kinds of keys that the tool can generate. Applications can generate all kinds that the members support. */
const kinds: Readonly<Record<string, KeyKind>> = {
  'aes-128': aes(16),
  'aes-192': aes(24),
  'aes-256': aes(32),
  'hmac-256': { mechanism: 'GENERIC_SECRET_KEY_GEN', template: { valueLen: 32, sign: true, verify: true } },
  'rsa-2048': rsa(2048),
  'rsa-3072': rsa(3072),
  'rsa-4096': rsa(4096),
  'ec-p256': ec('06082a8648ce3d030107'),
  'ec-p384': ec('06052b81040022'),
  'ec-p521': ec('06052b81040023'),
};

const keyArguments = [`one of ${Object.keys(kinds).join(', ')}`, 'CKA_LABEL of the key, or of both halves'];
const keyOptions = [
  { flags: '--id <hex>', description: 'CKA_ID, in hexadecimal' },
  { flags: '--extractable', description: 'let applications wrap the key' },
];

/** Returns the request for a key of a kind, from the arguments and options of a command. */
function requestOf(
  [kind = '', label = '']: readonly (string | undefined)[],
  options: Parameters<CommandSpec['run']>[2],
): CreationRequest {
  const found = Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
  if (found === undefined)
    throw new UsageError(`unknown kind of key ${kind}`, `choose one of ${Object.keys(kinds).join(', ')}`);
  const id = idOf(options);
  const name = { token: true, label, ...(id === undefined ? {} : { id }) };
  const secrecy = { private: true, sensitive: true, extractable: options.extractable === true };
  const mechanism = encodeMechanism('kind', found.mechanism);
  const own = encodeTemplate('template', { ...name, ...secrecy, ...found.template } as never);
  const ofPublic = found.publicTemplate;
  return ofPublic === undefined
    ? requestGenerate(mechanism, own)
    : requestGeneratePair(mechanism, encodeTemplate('template', { ...name, ...ofPublic } as never), own);
}

const generate: CommandSpec = {
  usage: 'key generate <kind> <label>',
  summary: 'generate a key, or a key pair, on all members',
  description:
    'The key is on every member, under one handle, or on none. The key is sensitive. Without --extractable applications cannot wrap it.',
  arguments: keyArguments,
  options: keyOptions,
  examples: ['pkcs11-ha key generate aes-256 default', 'pkcs11-ha key generate ec-p256 audit --id 01'],
  shape: '{ objects: [{ handle, class, type, label, id, members }] }',
  run: async (shell, given, options) => {
    const creation = requestOf(given, options);
    return await shell.withGroup(async (open) => {
      const made = await open.run(createObjects(open.group, creation, open.now() + WORK_WITHIN), shell.signal);
      tellObjects(shell, made.map(shownObject));
      return shell.codeOf(open);
    });
  },
};

const ensure: CommandSpec = {
  usage: 'key ensure <kind> <label>',
  summary: 'find a key, or a key pair, by its label; generate it if there is none',
  description:
    'Of all programs of this machine that do this at once, one generates the key, and the others find it. ' +
    'The options count only if the key is generated.',
  arguments: keyArguments,
  options: keyOptions,
  examples: ['pkcs11-ha key ensure aes-256 default'],
  shape: '{ objects: [{ handle, class, type, label, id, members }], made }',
  run: async (shell, given, options) => {
    const creation = requestOf(given, options);
    return await shell.withGroup(async (open) => {
      const until = open.now() + WORK_WITHIN;
      const { objects, isMade } = await open.run(ensureKey(open.group, creation, until), shell.signal);
      tellObjects(shell, objects.map(shownObject), { made: isMade });
      return shell.codeOf(open);
    });
  },
};

function tellObjects({ output }: Shell, objects: readonly ShownObject[], more: object = {}): void {
  output.give({ objects, ...more }, () =>
    output.table(
      ['handle', 'class', 'type', 'label', 'id'],
      objects.map(({ handle, class: ofClass, type, label, id }) => [String(handle), ofClass, type, label, id]),
    ),
  );
}

/** Finds all objects of a label; if there are none, the object of a handle. */
async function objectsOf(shell: Shell, open: OpenGroup, text: string): Promise<readonly VirtualObject[]> {
  const { group } = open;
  const until = open.now() + group.policy.deadline;
  const found = await open.run(findObjects(group, encodeTemplate('label', { label: text }), until), shell.signal);
  if (found.length > 0) return found;
  if (/^\d{1,15}$/u.test(text))
    return [
      await open.run(findKey(group, Number(text), CKR.objectHandleInvalid, 'C_FindObjects', until), shell.signal),
    ];
  throw new Failure(`no object ${printable(text)}`, 'run `pkcs11-ha objects` to list the objects');
}

/** Returns true if the objects are the two halves of one key pair. */
function arePair(objects: readonly VirtualObject[]): boolean {
  const [one, other] = objects;
  if (one === undefined || other === undefined || objects.length !== 2) return false;
  const classes = [one.description.class, other.description.class];
  const areHalves = classes.includes(CKO.privateKey) && classes.includes(CKO.publicKey);
  return areHalves && one.description.type === other.description.type && one.id.equals(other.id);
}

const destroy: CommandSpec = {
  usage: 'key destroy <handle>',
  summary: 'destroy an object on all members, for good',
  description:
    'Takes a handle, or a label if only one key or one pair has it. Members that are away destroy the object when they return.',
  arguments: ['handle or label of the object'],
  examples: ['pkcs11-ha key destroy 42150370118512'],
  shape: '{ destroyed: [{ handle, class, type, label, id, members }] }',
  run: (shell, [text = '']) =>
    shell.withGroup(async (open) => {
      const found = await objectsOf(shell, open, text);
      const shown = found.map(shownObject);
      if (shown.length > 1 && !arePair(found))
        throw new UsageError(
          `${shown.length} objects have the label ${printable(text)}`,
          'give a handle; `pkcs11-ha objects` lists the handles',
        );
      const names = shown.map((each) =>
        `${each.class} ${each.type} ${printable(each.label)} (${each.handle})`.replace('  ', ' '),
      );
      await shell.questions.confirm(`Destroy ${names.join(' and ')} on all members, for good?`);
      // Ignores Ctrl-C from here on: half a key pair would be useless.
      shell.signal.throwIfAborted();
      for (const object of found) await open.run(destroyObject(open.group, object, open.now() + WORK_WITHIN));
      shell.output.give({ destroyed: shown }, () => shell.output.line(`Destroyed: ${names.join(', ')}.`));
      return shell.codeOf(open);
    }),
};

const test: CommandSpec = {
  usage: 'key test [key]',
  summary: 'use a key on each member alone, and compare the results',
  description:
    'Signs or encrypts with the key on every serving member. The results must be equal, or the public half must verify them. ' +
    'Without a key, tests all secret and private keys. Leaves nothing on the tokens.',
  arguments: ['handle or label of the key (default: all keys)'],
  examples: ['pkcs11-ha key test', 'pkcs11-ha key test default'],
  shape:
    '{ keys: [{ handle, label, id, way, result: "same" | "different" | "incomplete" | "untested", members: { name: outcome } }] }',
  run: (shell, [text]) =>
    shell.withGroup(async (open) => {
      const { group } = open;
      const until = open.now() + WORK_WITHIN;
      const all =
        text === undefined
          ? await open.run(findObjects(group, [], until), shell.signal)
          : await objectsOf(shell, open, text);
      const keys = all.filter(({ description }) => [CKO.secretKey, CKO.privateKey].includes(description.class));
      if (keys.length === 0 && text !== undefined)
        throw new Failure(
          `${printable(text)} is not a secret or private key`,
          'give a secret or private key; other objects cannot be tested',
        );
      const trials: KeyTrial[] = [];
      for (const key of keys) trials.push(await tryKey(open, key, until, shell.signal));
      const { output } = shell;
      output.give({ keys: trials }, () => {
        const members = group.members.map(({ name }) => name);
        output.table(
          ['handle', 'label', 'way', 'result', ...members],
          trials.map(({ handle, label, way, result, members: outcomes }) => [
            String(handle),
            label,
            way,
            output.paint(result === 'same' ? 'green' : result === 'different' ? 'red' : 'yellow', result),
            ...members.map((name) => outcomes[name] ?? 'away'),
          ]),
        );
      });
      if (trials.some(({ result }) => result === 'different')) return EXIT.failed;
      // Counts a key that cannot be tested as a fault only if the operator named it.
      const isFine = ({ result }: KeyTrial): boolean =>
        result === 'same' || (result === 'untested' && text === undefined);
      return trials.every(isFine) ? shell.codeOf(open) : EXIT.degraded;
    }),
};

export const keyCommands: readonly CommandSpec[] = [generate, ensure, destroy, test];
