import type { PinReference, TokenSelector } from '../../../core/configuration/configuration.js';

export interface WrittenMember {
  readonly name: string;
  readonly module: string;
  readonly token: TokenSelector;
  readonly env: Readonly<Record<string, string>>;
  readonly standby: boolean;
}

export interface WrittenGroup {
  readonly label: string;
  readonly serial?: string;
  readonly pin?: PinReference;
  readonly members: readonly WrittenMember[];
  readonly log?: { readonly file: string; readonly maxSize?: string };
  readonly policy?: Readonly<Record<string, string>>;
  /** Above all: where it comes from. */
  readonly remarks?: readonly string[];
}

/** What YAML takes for something else than text. */
const words = /^(?:true|false|null|yes|no|on|off|y|n)$/iu;

/** A value as an operator would write it; JSON, which is YAML too, for what could be taken for something else. */
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

/** A group's configuration file, with comments for the next who opens it. */
export function writeConfiguration({ label, serial, pin, members, log, policy, remarks = [] }: WrittenGroup): string {
  const lines = [
    '# A group of PKCS#11 tokens that are one: docs/configuration.md has all settings.',
    ...remarks.map((remark) => `# ${remark}`),
    `label: ${quoted(label)}`,
    ...(serial === undefined ? [] : [`serial: ${quoted(serial)}`]),
    '',
    ...(pin === undefined
      ? [
          '# Where the user PIN comes from: env, file or command. It is never written here.',
          '# pin: { file: /etc/pkcs11-ha/pin }',
        ]
      : ['# Where the user PIN comes from. It is never written here.', `pin: ${quoted(pin)}`]),
    '',
    '# The same PIN on all of them. The one listed first is right where two have different keys under one name.',
    'members:',
    ...members.flatMap(memberLines),
    '',
    ...(log === undefined
      ? ['# What happens to the members, as lines of JSON.', '# log: { file: /var/log/pkcs11-ha.log }']
      : ['# What happens to the members, as lines of JSON.', `log: ${quoted(log)}`]),
    ...(policy === undefined || Object.keys(policy).length === 0
      ? []
      : ['', 'policy:', ...Object.entries(policy).map(([name, value]) => `  ${name}: ${quoted(value)}`)]),
  ];
  return `${lines.join('\n')}\n`;
}
