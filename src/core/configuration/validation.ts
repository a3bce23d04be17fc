import { type Document, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { constantsOf } from '../../spec/constants.js';
import { InputError } from '../../spec/input.js';
import type { Verdict } from '../../spec/verdict.js';
import type { BackupTokenConfig, GroupConfig, MemberConfig, PinReference } from './configuration.js';
import { type Locate, pathText, problemsOf } from './problems.js';
import { duration, size } from './quantity.js';
import { sandboxSchema } from './sandbox.js';

/** Default of `writeHangAfter` (ms), if `hangAfter` is not above. */
const WRITE_HANG_AFTER = 10_000;

/** Maximum number of lanes of a member. */
const MOST_LANES = 64;
/** Maximum number of renamed log files. */
const MOST_OLD_LOGS = 100;

function exactlyOne(list: string): (value: object) => boolean {
  const names = list.split(', ');
  return (value) => names.filter((name) => (value as Record<string, unknown>)[name] !== undefined).length === 1;
}

const text = (expected: string, most = 4096): z.ZodString =>
  z.string().min(1, `expected ${expected}`).max(most, `expected ${expected}`);

/** Schema of one member's settings. */
const memberSchema = z.strictObject({
  name: text('a name of 1 to 64 characters', 64),
  module: text('the path of a PKCS#11 library'),
  token: z
    .strictObject({
      serial: text('a serial of 1 to 16 characters', 16).optional(),
      label: text('a label of 1 to 32 characters', 32).optional(),
      slot: z.int().min(0, 'expected a slot index from 0').optional(),
    })
    .refine(exactlyOne('serial, label, slot'), 'expected exactly one of serial, label and slot'),
  env: z.record(z.string(), z.string()).default({}),
  sandbox: sandboxSchema.optional(),
  libraryParameters: z.string().default(''),
  weight: z
    .number()
    .min(0.01, 'expected a number from 0.01 to 100')
    .max(100, 'expected a number from 0.01 to 100')
    .default(1),
  standby: z.boolean().default(false),
  drained: z.boolean().default(false),
  lanes: z
    .int()
    .min(1, `expected an integer from 1 to ${MOST_LANES}`)
    .max(MOST_LANES, `expected an integer from 1 to ${MOST_LANES}`)
    .default(8),
  exclusiveWrites: z.union([z.boolean(), z.literal('auto')]).default('auto'),
});

/** Schema of a PIN's source. */
const pinSchema = z
  .strictObject({
    env: text('the name of an environment variable').optional(),
    file: text('the path of a file').optional(),
    command: z.union([text('a command'), z.array(z.string()).min(1, 'expected a program')]).optional(),
  })
  .refine(
    exactlyOne('env, file, command'),
    'expected exactly one of env, file and command; the configuration never holds the PIN itself',
  );

const publicKey = z
  .string()
  .regex(/^[0-9a-f]{64}$/iu, 'expected a public key of 64 hexadecimal digits')
  .transform((key) => key.toLowerCase());

/** Schema of the administration key. */
const administrationSchema = z.strictObject({
  publicKey: z.union([publicKey, z.array(publicKey).min(1, 'expected at least one public key')]),
  key: pinSchema.optional(),
});

const verdictNames = [
  'ok',
  'caller',
  'mechanism',
  'session',
  'object',
  'busy',
  'member',
  'ambiguous',
  'credential',
] as const;

const policySchema = z.strictObject({
  deadline: duration.default(10_000),
  hangAfter: duration.default(2000),
  writeHangAfter: duration.optional(),
  balance: z.enum(['leastOutstanding', 'roundRobin', 'primary']).default('leastOutstanding'),
  hedge: z.boolean().default(true),
  attemptTimeout: z.union([z.literal('adaptive'), duration]).default('adaptive'),
  replayLimit: size.default(1024 ** 2),
  verdicts: z.record(z.string(), z.enum(verdictNames)).default({}),
  freshness: duration.default(1000),
  nonExtractable: z.enum(['sealed', 'unsealed', 'refuse']).default('sealed'),
  clearCopy: z.enum(['allow', 'refuse']).default('refuse'),
  replication: z.enum(['wrap', 'external']).default('wrap'),
  durability: z.union([z.literal('all'), z.int().min(1, "expected 'all' or an integer from 1")]).default('all'),
  recovery: z.enum(['auto', 'manual']).default('auto'),
  stale: z.enum(['serve', 'refuse']).default('serve'),
});

/** Returns true if two members surely name one token. A slot and a label may do so too: that shows when they join. */
function isSameToken(one: z.infer<typeof memberSchema>, other: z.infer<typeof memberSchema>): boolean {
  if (one.token.serial !== undefined) return one.token.serial === other.token.serial;
  const place = ({ module, token, env, libraryParameters }: typeof one): string =>
    JSON.stringify([module, token, Object.entries(env).sort(), libraryParameters]);
  return place(one) === place(other);
}

/** Schema of a whole configuration. */
const groupSchema = z.strictObject({
  label: text('a label of 1 to 32 characters', 32).refine(
    (label) => Buffer.byteLength(label) <= 32,
    'expected at most 32 bytes of UTF-8',
  ),
  serial: text('a serial of 1 to 16 characters', 16).optional(),
  members: z
    .array(memberSchema)
    .min(1, 'expected at least one member')
    .max(64, 'expected at most 64 members')
    .superRefine((members, context) => {
      const add = (path: (string | number)[], message: string): void => {
        context.addIssue({ code: 'custom', path, message });
      };
      members.forEach((member, index) => {
        const { name } = member;
        const before = members.slice(0, index);
        if (before.some((other) => other.name === name))
          add([index, 'name'], `expected a unique name; another member is named '${name}'`);
        const twin = before.find((other) => isSameToken(other, member));
        if (twin !== undefined) add([index, 'token'], `expected a token of its own; '${twin.name}' has the same token`);
      });
    }),
  pin: pinSchema.optional(),
  administration: administrationSchema.optional(),
  log: z
    .strictObject({
      file: text('the path of a file'),
      maxSize: size.default(10 * 1024 ** 2),
      keep: z
        .int()
        .min(0, `expected an integer from 0 to ${MOST_OLD_LOGS}`)
        .max(MOST_OLD_LOGS, `expected an integer from 0 to ${MOST_OLD_LOGS}`)
        .default(5),
    })
    .optional(),
  locks: text('the path of a folder')
    .refine((path) => path.startsWith('/'), 'expected an absolute path')
    .optional(),
  slots: z.enum(['virtual', 'all'], "expected 'virtual' or 'all'").default('virtual'),
  policy: policySchema.prefault({}),
});

/** Schema of a backup token: the settings of a member that it needs, and its PIN's source. */
const backupTokenSchema = z.strictObject({
  module: memberSchema.shape.module,
  token: memberSchema.shape.token,
  env: memberSchema.shape.env,
  sandbox: memberSchema.shape.sandbox,
  libraryParameters: memberSchema.shape.libraryParameters,
  pin: pinSchema.optional(),
});

/** Error that lists all problems of a configuration. */
export class ConfigurationError extends Error {
  readonly problems: readonly string[];

  constructor(source: string, problems: readonly string[]) {
    super(`${source}: ${problems.join('; ')}`);
    this.name = 'ConfigurationError';
    this.problems = problems;
  }
}

/** Returns the CKR code of a name or number; undefined for an unknown one. */
function codeOf(name: string): number | undefined {
  const known = constantsOf('CKR_').get(name.replace(/^CKR_/u, ''));
  if (known !== undefined) return known;
  return /^(0x[0-9a-f]+|\d+)$/iu.test(name) ? Number(name) : undefined;
}

function validate(source: string, input: unknown, locate: Locate): GroupConfig {
  const result = groupSchema.safeParse(input);
  if (!result.success) throw new ConfigurationError(source, problemsOf(result.error, input, locate));
  const { policy, administration, ...rest } = result.data;
  const verdicts = new Map<number, Verdict>();
  for (const [name, verdict] of Object.entries(policy.verdicts)) {
    const code = codeOf(name);
    if (code === undefined) {
      const path = ['policy', 'verdicts', name];
      throw new ConfigurationError(source, [
        `${locate(path)}${pathText(path)}: expected the name or number of a CKR code`,
      ]);
    }
    verdicts.set(code, verdict);
  }
  // The limit of long writes is never below that of other calls.
  const writeHangAfter = Math.max(policy.hangAfter, policy.writeHangAfter ?? WRITE_HANG_AFTER);
  return {
    ...rest,
    serial: rest.serial,
    pin: rest.pin,
    administration:
      administration === undefined
        ? undefined
        : { publicKeys: [administration.publicKey].flat(), key: administration.key },
    log: rest.log,
    locks: rest.locks,
    slots: rest.slots,
    policy: { ...policy, writeHangAfter, verdicts },
  };
}

function lineLocator(document: Document, lines: LineCounter): Locate {
  return (path) => {
    // A missing setting is reported at the nearest node that encloses it.
    for (let length = path.length; length >= 0; length -= 1) {
      const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
      const range = (node as { range?: readonly number[] } | undefined)?.range;
      if (range?.[0] !== undefined) return `line ${lines.linePos(range[0]).line}: `;
    }
    return '';
  };
}

/** Parses a YAML text to a group's configuration; `source` names the file in messages. Throws ConfigurationError. */
export function parseConfiguration(yaml: string, source: string): GroupConfig {
  const lines = new LineCounter();
  const document = parseDocument(yaml, {
    lineCounter: lines,
    prettyErrors: false,
    logLevel: 'silent',
    stringKeys: true,
  });
  if (document.errors.length > 0) {
    throw new ConfigurationError(
      source,
      document.errors.map(({ message, pos }) => `line ${lines.linePos(pos[0]).line}: ${message}`),
    );
  }
  let input: unknown;
  try {
    input = document.toJS();
  } catch (error) {
    // An alias without its anchor, or too many of them.
    throw new ConfigurationError(source, [error instanceof Error ? error.message : String(error)]);
  }
  return validate(source, input, lineLocator(document, lines));
}

/** Checks an object of the file's shape as a group's configuration. Throws ConfigurationError. */
export function checkConfiguration(input: unknown, source = 'configuration'): GroupConfig {
  return validate(source, input, () => '');
}

/** Checks an object of the file's shape as a member's configuration. Throws ConfigurationError. */
export function checkMember(input: unknown): MemberConfig {
  const result = memberSchema.safeParse(input);
  if (!result.success)
    throw new ConfigurationError(
      'member',
      problemsOf(result.error, input, () => ''),
    );
  return result.data;
}

/** Checks an object of the file's shape as a PIN's source. Throws InputError, which names the argument `field`. */
export function checkPinReference(field: string, input: unknown): PinReference {
  const result = pinSchema.safeParse(input);
  if (!result.success) throw new InputError(field, 'a PIN, or its source: exactly one of env, file and command', input);
  return result.data;
}

/** Checks an object as a backup token's settings; `source` names it in messages. Throws ConfigurationError. */
export function checkBackupToken(input: unknown, source: string): BackupTokenConfig {
  const result = backupTokenSchema.safeParse(input);
  if (!result.success)
    throw new ConfigurationError(
      source,
      problemsOf(result.error, input, () => ''),
    );
  const { pin, ...settings } = result.data;
  return { config: checkMember({ name: 'backup', ...settings }), pin };
}
