import type { GroupConfigInput, PinReference, TokenSelector } from '../../../core/configuration/configuration.js';

interface WrittenMember {
  readonly name: string;
  readonly module: string;
  readonly token: TokenSelector;
  readonly env: Readonly<Record<string, string>>;
  readonly standby: boolean;
}

interface WrittenGroup {
  readonly label: string;
  readonly serial?: string;
  readonly pin?: PinReference;
  readonly administration?: GroupConfigInput['administration'];
  readonly members: readonly WrittenMember[];
  readonly log?: { readonly file: string; readonly maxSize?: string };
  readonly policy?: Readonly<Record<string, string>>;
  /** Comments at the top of the file, such as its origin. */
  readonly remarks?: readonly string[];
}

/** Words that YAML reads as other values than text. */
const words = /^(?:true|false|null|yes|no|on|off|y|n)$/iu;

/** Writes a value as an operator would; as JSON, which is YAML too, if YAML could read it as another value. */
export function quoted(value: unknown): string {
  if (typeof value === 'string')
    return /^[A-Za-z/][\w./-]*$/u.test(value) && !words.test(value) ? value : JSON.stringify(value);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return JSON.stringify(value);
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  return `{ ${entries.map(([name, each]) => `${quoted(name)}: ${quoted(each)}`).join(', ')} }`;
}

function memberLines({ name, module, token, env, standby }: WrittenMember): readonly string[] {
  return [
    `  - name: ${quoted(name)}`,
    `    module: ${quoted(module)}`,
    `    token: ${quoted(token)}`,
    ...(Object.keys(env).length === 0 ? [] : [`    env: ${quoted(env)}`]),
    ...(standby ? ['    standby: true # serves when no other member is left'] : []),
  ];
}

/** Returns the lines of the setting `administration`, with comments for the operator. */
export function administrationLines(
  administration: NonNullable<GroupConfigInput['administration']>,
): readonly string[] {
  const { publicKey, key } = administration;
  return [
    "# Administration key, which signs the group's record. Every configuration of the group needs `publicKey`; only those",
    '# of hosts where the membership is changed need `key`, the source of the private half.',
    'administration:',
    `  publicKey: ${quoted(publicKey)}`,
    ...(key === undefined ? [] : [`  key: ${quoted(key)}`]),
  ];
}

/** Writes a group's configuration file, with comments for the operator. */
export function writeConfiguration(written: WrittenGroup): string {
  const { label, serial, pin, administration, members, log, policy, remarks = [] } = written;
  const lines = [
    '# A group of PKCS#11 tokens that acts as one token. docs/configuration.md lists all settings.',
    ...remarks.map((remark) => `# ${remark}`),
    `label: ${quoted(label)}`,
    ...(serial === undefined ? [] : [`serial: ${quoted(serial)}`]),
    '',
    ...(pin === undefined
      ? [
          '# Source of the user PIN: env, file or command. The PIN itself is never in this file.',
          '# pin: { file: /etc/pkcs11-ha/pin }',
        ]
      : ['# Source of the user PIN. The PIN itself is never in this file.', `pin: ${quoted(pin)}`]),
    '',
    '# All members have the same PIN. If two members have different keys under one name, the first in this list is right.',
    'members:',
    ...members.flatMap(memberLines),
    '',
    ...(administration === undefined ? [] : [...administrationLines(administration), '']),
    ...(log === undefined
      ? ['# Event log of the group, as JSON lines.', '# log: { file: /var/log/pkcs11-ha.log }']
      : ['# Event log of the group, as JSON lines.', `log: ${quoted(log)}`]),
    ...(policy === undefined || Object.keys(policy).length === 0
      ? []
      : ['', 'policy:', ...Object.entries(policy).map(([name, value]) => `  ${name}: ${quoted(value)}`)]),
  ];
  return `${lines.join('\n')}\n`;
}
