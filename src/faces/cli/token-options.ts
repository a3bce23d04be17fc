import { resolve } from 'node:path';
import type { GroupConfig, PinReference, TokenSelector } from '../../core/configuration/configuration.js';
import { checkConfiguration } from '../../core/configuration/validation.js';
import { type FoundToken, isMeant } from '../../core/joining/library.js';
import { listTokens } from '../../core/joining/spare-host.js';
import { CKF } from '../../spec/codes.js';
import { type OptionSpec, textOf } from './command.js';
import { Failure, UsageError } from './failure.js';
import type { Shell } from './shell.js';
import { printable } from './terminal/output.js';

type Options = Readonly<Record<string, unknown>>;
/** A library's tokens are to be had within so long (ms). */
const LIST_WITHIN = 20_000;

/** Which token of which library. */
export const tokenOptions: readonly OptionSpec[] = [
  { flags: '--module <path>', description: "the vendor's PKCS#11 library" },
  { flags: '--serial <serial>', description: 'the token, by its serial' },
  { flags: '--token-label <label>', description: 'the token, by its label' },
  { flags: '--slot <index>', description: 'the token, by its place among the slots that have one, from 0' },
  {
    flags: '--env <name=value>',
    description: "a variable of its host's environment; may be given again",
    isRepeated: true,
  },
];

/** Where a PIN comes from; never the PIN itself, which others could see among the arguments. */
export const pinOptions: readonly OptionSpec[] = [
  { flags: '--pin-env <name>', description: 'the PIN is in this environment variable' },
  { flags: '--pin-file <path>', description: 'the PIN is the first line of this file' },
  { flags: '--pin-command <line>', description: 'the PIN is the first line that this prints' },
];

export interface TokenLocation {
  readonly module: string;
  readonly token: TokenSelector;
  readonly env: Readonly<Record<string, string>>;
}

export function environmentOf(options: Options): Readonly<Record<string, string>> {
  const pairs = (options.env ?? []) as readonly string[];
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at <= 0) throw new UsageError(`--env: ${pair} has no name`, 'write --env NAME=VALUE');
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

export function pinReferenceOf(options: Options, prefix = 'pin'): PinReference | undefined {
  const [env, file, command] = ['Env', 'File', 'Command'].map((kind) => textOf(options, `${prefix}${kind}`));
  const given = [env, file, command].filter((each) => each !== undefined);
  if (given.length > 1)
    throw new UsageError(
      'the PIN comes from one place only',
      `give one of the --${prefix === 'pin' ? 'pin' : 'new-pin'} options`,
    );
  if (env !== undefined) return { env };
  // A service is started elsewhere.
  if (file !== undefined) return { file: resolve(file) };
  return command === undefined ? undefined : { command };
}

/** The variable that a library has no business to see. */
export function hiddenBy(reference: PinReference | undefined): readonly string[] {
  return reference?.env === undefined ? [] : [reference.env];
}

function selectorOf(options: Options): TokenSelector | undefined {
  const serial = textOf(options, 'serial');
  const label = textOf(options, 'tokenLabel');
  const slot = textOf(options, 'slot');
  const given = [serial, label, slot].filter((each) => each !== undefined);
  if (given.length > 1) throw new UsageError('one token only', 'give one of --serial, --token-label and --slot');
  if (slot !== undefined && !/^\d+$/u.test(slot))
    throw new UsageError(`--slot: ${slot} is no index`, 'slots count from 0');
  if (serial !== undefined) return { serial };
  if (label !== undefined) return { label };
  return slot === undefined ? undefined : { slot: Number(slot) };
}

/** The token that the options name; what they leave open is asked for, the token from a list. */
export async function askForToken(
  shell: Shell,
  options: Options,
  /** Of the group that the token is for, where there is one. */
  group?: GroupConfig,
): Promise<TokenLocation> {
  const { questions } = shell;
  const likely = group?.members[0]?.module;
  const library = textOf(options, 'module') ?? (await questions.text('PKCS#11 library', '--module', likely));
  // A name without a folder is looked for by the loader.
  const module = library.includes('/') ? resolve(library) : library;
  const env = environmentOf(options);
  const token = selectorOf(options);
  if (token === undefined && !questions.canAsk)
    throw new UsageError('no token was named', 'give --serial, --token-label or --slot');
  const found = await tokensOf(shell, module, env, [...hiddenBy(pinReferenceOf(options)), ...hiddenBy(group?.pin)]);
  if (token !== undefined) {
    if (!found.some((each) => isMeant(token, each))) throw notThere(module, token, found);
    return { module, token, env };
  }
  const serial = await questions.select(
    'Token',
    '--serial',
    found.map(({ token: { label, serialNumber, model } }) => ({
      label: printable(label === '' ? '(no label)' : label),
      hint: printable(`serial ${serialNumber}, ${model}`),
      value: serialNumber,
    })),
  );
  return { module, token: { serial }, env };
}

function notThere(module: string, selector: TokenSelector, found: readonly FoundToken[]): Failure {
  const [[name, value] = ['', '']] = Object.entries(selector);
  const there = found.map(({ token: { label, serialNumber } }) => printable(`${label} (serial ${serialNumber})`));
  return new Failure(`${module} shows no token with ${name} ${value}`, `it shows ${there.join(', ')}`);
}

/** The initialized tokens that a library shows, looked at in a host of its own. */
export async function tokensOf(
  shell: Shell,
  module: string,
  env: Readonly<Record<string, string>>,
  hidden: readonly string[],
): Promise<readonly FoundToken[]> {
  const config = checkConfiguration({ label: 'list', members: [{ name: 'list', module, token: { slot: 0 }, env }] });
  const [member] = config.members;
  if (member === undefined) return [];
  const found = await shell.withHosts(
    { ...config, members: [] },
    (open) => open.run(listTokens(open.group, member, open.now() + LIST_WITHIN), shell.signal),
    { hidden },
  );
  const initialized = found.filter(({ token: { flags } }) => (flags & CKF.tokenInitialized) !== 0);
  if (initialized.length === 0)
    throw new Failure(`${module} shows no initialized token`, "initialize one with the vendor's tool, or check --env");
  return initialized;
}
