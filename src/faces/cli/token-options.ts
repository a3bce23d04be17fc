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
/** Time limit for listing a library's tokens (ms). */
const LIST_WITHIN = 20_000;

/** Options that choose a library and one of its tokens. */
export const tokenOptions: readonly OptionSpec[] = [
  { flags: '--module <path>', description: "path of the vendor's PKCS#11 library" },
  { flags: '--serial <serial>', description: 'serial of the token' },
  { flags: '--token-label <label>', description: 'label of the token' },
  { flags: '--slot <index>', description: 'index of the token among the slots with a token, from 0' },
  {
    flags: '--env <name=value>',
    description: 'environment variable for the library; may be repeated',
    isRepeated: true,
  },
];

/** Options that name the source of a PIN. The PIN itself is no option: other users can see a process's arguments. */
export const pinOptions: readonly OptionSpec[] = [
  { flags: '--pin-env <name>', description: 'the PIN is in this environment variable' },
  { flags: '--pin-file <path>', description: 'the PIN is the first line of this file' },
  { flags: '--pin-command <line>', description: 'the PIN is the first line that this command prints' },
];

/** Library, token and environment that the options choose. */
interface TokenLocation {
  readonly module: string;
  readonly token: TokenSelector;
  readonly env: Readonly<Record<string, string>>;
}

/** Reads the variables that `--env` gives; UsageError for a pair without a name. */
function environmentOf(options: Options): Readonly<Record<string, string>> {
  const pairs = (options.env ?? []) as readonly string[];
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at <= 0) throw new UsageError(`--env: ${pair} has no name`, 'give --env NAME=VALUE');
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

/** Reads the source of a PIN from the options; UsageError for more than one. */
export function pinReferenceOf(options: Options, prefix = 'pin'): PinReference | undefined {
  const [env, file, command] = ['Env', 'File', 'Command'].map((kind) => textOf(options, `${prefix}${kind}`));
  const given = [env, file, command].filter((each) => each !== undefined);
  if (given.length > 1)
    throw new UsageError(
      'more than one source of the PIN',
      `give only one of the --${prefix === 'pin' ? 'pin' : 'new-pin'} options`,
    );
  if (env !== undefined) return { env };
  // Resolves the path: services start in other folders.
  if (file !== undefined) return { file: resolve(file) };
  return command === undefined ? undefined : { command };
}

/** Lists the environment variable of a PIN, which no host gets. */
export function hiddenBy(reference: PinReference | undefined): readonly string[] {
  return reference?.env === undefined ? [] : [reference.env];
}

function selectorOf(options: Options): TokenSelector | undefined {
  const serial = textOf(options, 'serial');
  const label = textOf(options, 'tokenLabel');
  const slot = textOf(options, 'slot');
  const given = [serial, label, slot].filter((each) => each !== undefined);
  if (given.length > 1)
    throw new UsageError('more than one token given', 'give only one of --serial, --token-label and --slot');
  if (slot !== undefined && !/^\d+$/u.test(slot))
    throw new UsageError(`--slot: ${slot} is not an index`, 'give a number; slots count from 0');
  if (serial !== undefined) return { serial };
  if (label !== undefined) return { label };
  return slot === undefined ? undefined : { slot: Number(slot) };
}

/** Returns the token that the options name; asks for what they omit, and lists the tokens to choose from. */
export async function askForToken(
  shell: Shell,
  options: Options,
  /** Configuration of the group that the token is for, if there is one. */
  group?: GroupConfig,
): Promise<TokenLocation> {
  const { questions } = shell;
  const likely = group?.members[0]?.module;
  const library = textOf(options, 'module') ?? (await questions.text('PKCS#11 library', '--module', likely));
  // Keeps a name without a folder, for which the loader searches.
  const module = library.includes('/') ? resolve(library) : library;
  const env = environmentOf(options);
  const token = selectorOf(options);
  if (token === undefined && !questions.canAsk)
    throw new UsageError('no token given', 'give --serial, --token-label or --slot');
  const found = await tokensOf(shell, module, env, [...hiddenBy(pinReferenceOf(options)), ...hiddenBy(group?.pin)]);
  if (token !== undefined) {
    if (!found.some((each) => isMeant(token, each))) throw tokenNotFound(module, token, found);
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

function tokenNotFound(module: string, selector: TokenSelector, found: readonly FoundToken[]): Failure {
  const [[name, value] = ['', '']] = Object.entries(selector);
  const there = found.map(({ token: { label, serialNumber } }) => printable(`${label} (serial ${serialNumber})`));
  return new Failure(`${module} shows no token with ${name} ${value}`, `choose one of ${there.join(', ')}`);
}

/** Lists the initialized tokens that a library shows, in a host of its own. */
async function tokensOf(
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
