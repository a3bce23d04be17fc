import { TokenError } from '../../../core/base/error.js';
import { reasonOf } from '../../../core/base/state.js';
import type { GroupConfig } from '../../../core/configuration/configuration.js';
import { awaitJoins } from '../../../core/group/coming.js';
import type { Member } from '../../../core/group/member.js';
import { membersBeyond } from '../../../core/records/record.js';
import { type Inspection, inspectMember } from '../../../core/status/inspection.js';
import { type KeyTravel, probeWrapping } from '../../../core/wrapping/wrap-probe.js';
import type { OpenGroup } from '../../../runtime/groups/open-group.js';
import { CKF } from '../../../spec/codes.js';
import { mechanismName } from '../../../spec/constants.js';
import type { CommandSpec } from '../command.js';
import { EXIT } from '../exit-code.js';
import type { Shell } from '../shell.js';
import { type Output, printable } from '../terminal/output.js';

type Replication = GroupConfig['policy']['replication'];
/** Difference between clocks from which a warning is given (ms). */
const CLOCKS_APART = 60_000;
/** Maximum number of mechanisms in the table; `--json` has all. */
const MOST_NAMED = 12;

interface Problem {
  readonly member: string;
  /** `error` if no group can be created or used with the member. */
  readonly severity: 'error' | 'warning';
  readonly problem: string;
  readonly advice: string;
}

interface VerifiedMember {
  readonly name: string;
  readonly module: string;
  readonly state: string;
  readonly token: object | null;
  readonly pin: string;
  readonly group: string | null;
}

interface Verification {
  readonly members: readonly VerifiedMember[];
  /** Travel of keys, by key type; null if there is no group yet or a member is away. */
  readonly travels: Readonly<Record<string, KeyTravel>> | null;
  /** Names of the members that have a mechanism, by mechanism, unless all have it. */
  readonly partial: Readonly<Record<string, readonly string[]>>;
  readonly problems: readonly Problem[];
}

function pinStateOf(flags: number): string {
  if ((flags & CKF.userPinLocked) !== 0) return 'locked';
  if ((flags & CKF.userPinFinalTry) !== 0) return 'one try left';
  if ((flags & CKF.userPinCountLow) !== 0) return 'was refused lately';
  return (flags & CKF.userPinToBeChanged) !== 0 ? 'has to be changed' : 'good';
}

/** Reads the token's clock (ms since 1970); undefined if the token has none. */
function clockOf({ flags, utcTime }: Inspection['token']): number | undefined {
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)/u.exec(utcTime);
  if ((flags & CKF.clockOnToken) === 0 || parts === null) return undefined;
  const [year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0] = parts.slice(1).map(Number);
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

const pinProblems: Readonly<Record<string, string>> = {
  locked: 'the user PIN is locked',
  'one try left': 'the user PIN has one try left',
  'was refused lately': 'the user PIN was refused lately',
  'has to be changed': 'the user PIN has to be changed',
};

/** Lists the problems of a member's token. */
function problemsOf(inspection: Inspection, replication: Replication): Problem[] {
  const { member, token, wraps, storageProblem } = inspection;
  const problems: Problem[] = [];
  const note = (severity: Problem['severity'], problem: string, advice: string): void => {
    problems.push({ member, severity, problem, advice });
  };
  const pin = pinStateOf(token.flags);
  if (pin !== 'good')
    note('warning', pinProblems[pin] ?? pin, 'find out who uses a wrong PIN; `pkcs11-ha pin change` sets a new one');
  if ((token.flags & CKF.loginRequired) === 0)
    note('warning', 'the token requires no login', 'set a user PIN: every user of the library can use the keys');
  if ((token.flags & CKF.writeProtected) !== 0)
    note('error', 'the token is write-protected', 'remove the write protection: the group has to write its records');
  if (storageProblem !== undefined)
    note('error', storageProblem, 'make room for the records of the group, or change the token’s policies');
  if (wraps.length === 0 && replication !== 'external')
    note(
      'error',
      'the token lists no mechanism that wraps and unwraps with AES',
      "allow AES wrapping in the token's policies, or set policy.replication: external",
    );
  const clock = clockOf(token);
  if (clock !== undefined && Math.abs(clock - Date.now()) > CLOCKS_APART)
    note(
      'warning',
      `the token's clock differs from this machine's by ${Math.round((clock - Date.now()) / 1000)} s`,
      "correct the token's clock, or this machine's",
    );
  return problems;
}

/** Returns the mechanisms that some members lack, with the members that have them. */
function partialOf(inspections: readonly Inspection[]): Record<string, string[]> {
  const partial: Record<string, string[]> = {};
  const types = new Set(inspections.flatMap(({ mechanisms }) => [...mechanisms.keys()]));
  for (const type of [...types].sort((one, other) => one - other)) {
    const having = inspections.filter(({ mechanisms }) => mechanisms.has(type)).map(({ member }) => member);
    if (having.length < inspections.length) partial[mechanismName(type)] = having;
  }
  return partial;
}

/** Probes how keys travel, with session objects; null unless all members serve. */
async function travelsOf(shell: Shell): Promise<Readonly<Record<string, KeyTravel>> | null> {
  return await shell.withGroup(async (open) => {
    const { group } = open;
    await open.run(awaitJoins(group, open.now() + group.policy.deadline), shell.signal);
    if (!group.members.every(({ isServing }) => isServing)) return null;
    const { travels } = await shell.administer(open, 'verify', (each, deadline) => probeWrapping(each, deadline));
    return travels;
  });
}

/** State of the members, as a verification finds it. */
interface Findings {
  readonly inspections: Inspection[];
  readonly members: VerifiedMember[];
  readonly problems: Problem[];
}

/** Describes a member that does not serve. */
function absenceOf({ name, state }: Member): Problem {
  const problem = reasonOf(state) === '' ? 'the member does not answer' : reasonOf(state);
  const isDrained = state.name === 'drained';
  const advice = isDrained
    ? 'remove `drained` from the configuration to make the member serve'
    : 'check the path of the library, `env`, the selected token, and the PIN';
  return { member: name, severity: isDrained ? 'warning' : 'error', problem, advice };
}

/** Inspects a member's token and adds the findings. */
async function inspectInto(findings: Findings, shell: Shell, open: OpenGroup, member: Member): Promise<void> {
  const { deadline, replication } = open.group.policy;
  const { name, state } = member;
  const inspection = member.isServing
    ? await open.run(inspectMember(open.group, member, open.now() + deadline), shell.signal)
    : undefined;
  if (inspection === undefined) findings.problems.push(absenceOf(member));
  else {
    findings.inspections.push(inspection);
    findings.problems.push(...problemsOf(inspection, replication));
  }
  findings.members.push({
    name,
    module: member.config.module,
    state: state.name,
    token: inspection === undefined ? null : { slot: member.connection?.slot, ...inspection.token },
    pin: inspection === undefined ? '?' : pinStateOf(inspection.token.flags),
    group: inspection?.group?.label ?? null,
  });
}

/** Inspects all members, whatever group their tokens belong to. */
async function inspectAll(shell: Shell, config: GroupConfig): Promise<Findings> {
  return await shell.withHosts(config, async (open) => {
    const { group } = open;
    group.isBeingCreated = true;
    await open.run(awaitJoins(group, open.now() + config.policy.deadline), shell.signal);
    const findings: Findings = { inspections: [], members: [], problems: [] };
    for (const member of group.members) await inspectInto(findings, shell, open, member);
    return findings;
  });
}

/** Lists the problems of the members as a group: several groups, and members that the configuration does not name. */
function groupProblemsOf(inspections: readonly Inspection[], areAllThere: boolean): Problem[] {
  const problems: Problem[] = [];
  if (groupIdsOf(inspections).size > 1)
    problems.push({
      member: 'all',
      severity: 'error',
      problem: `the members do not belong to one group: ${inspections.map(({ member, group }) => `${member} ${group === undefined ? 'has no group record' : `belongs to ${group.label}`}`).join(', ')}`,
      advice: 'run `pkcs11-ha member add` to add a token, or `group create --existing` to start over',
    });
  if (!areAllThere) return problems;
  const serials = inspections.map(({ token: { serialNumber } }) => serialNumber);
  const record = inspections.map(({ group }) => group).sort((a, b) => (b?.revision ?? 0) - (a?.revision ?? 0))[0];
  for (const { name, serial } of membersBeyond(record, serials))
    problems.push({
      member: name,
      severity: 'warning',
      problem: `the group has this member (serial ${serial}), but the configuration does not`,
      advice: `add it to the configuration, or run \`pkcs11-ha member remove ${name}\``,
    });
  return problems;
}

function groupIdsOf(inspections: readonly Inspection[]): ReadonlySet<string | undefined> {
  return new Set(inspections.map(({ group }) => group?.id));
}

async function verifyMembers(shell: Shell): Promise<Verification> {
  const config = await shell.completeConfiguration();
  const { inspections, members, problems } = await inspectAll(shell, config);
  const areAllThere = inspections.length === config.members.length;
  problems.push(...groupProblemsOf(inspections, areAllThere));
  const ids = groupIdsOf(inspections);
  const isWhole = areAllThere && ids.size === 1 && !ids.has(undefined);
  let travels: Verification['travels'] = null;
  if (isWhole && problems.every(({ severity }) => severity === 'warning')) {
    try {
      travels = await travelsOf(shell);
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      const advice = 'run `pkcs11-ha status` to see the state of each member';
      problems.push({ member: 'all', severity: 'error', problem: error.message, advice });
    }
  }
  return { members, travels, partial: partialOf(inspections), problems };
}

function show(output: Output, { members, travels, partial, problems }: Verification): void {
  output.table(
    ['member', 'slot', 'label', 'serial', 'model', 'firmware', 'PIN', 'group', 'library'],
    members.map(({ name, token, pin, group, module }) => {
      const { slot, label, serialNumber, model, firmwareVersion } = (token ?? {}) as Record<string, unknown>;
      const cells = [slot, label, serialNumber, model, firmwareVersion].map((cell) => String(cell ?? '?'));
      return [name, ...cells, pin, group ?? '-', module];
    }),
  );
  const [first] = Object.entries(partial);
  if (first !== undefined) {
    output.line(
      '\nMechanisms that only some members have. Calls go to these members; keys cannot be unwrapped or derived with them:',
    );
    const shown = Object.entries(partial).slice(0, MOST_NAMED);
    output.table(
      ['mechanism', 'on'],
      shown.map(([name, having]) => [name, having.join(', ')]),
    );
    const more = Object.keys(partial).length - shown.length;
    if (more > 0) output.line(`and ${more} more; --json lists all`);
  }
  output.line();
  if (travels === null) output.line('The travel of keys was not tested: that needs a group with all its members.');
  else output.table(['key', 'travels'], Object.entries(travels));
  output.line();
  for (const { member, severity, problem, advice } of problems)
    output.line(
      `${output.paint(severity === 'error' ? 'red' : 'yellow', severity)} ${member}: ${printable(problem)}; ${advice}`,
    );
  if (problems.length === 0) output.line(output.paint('green', 'No problems.'));
}

export const verify: CommandSpec = {
  usage: 'verify',
  summary: "check every member's token, and report problems",
  description:
    'Shows each token, and whether the PIN is right and the token can keep records and wrap keys. Tests how each type of key travels ' +
    'between the members, lists mechanisms that only some members have, and advises on each problem. Creates session objects only.',
  examples: ['pkcs11-ha verify', 'pkcs11-ha verify --json'],
  shape:
    '{ members: [{ name, module, state, token: { slot, label, manufacturerID, model, serialNumber, flags, maxSessionCount, maxRwSessionCount, longestPin, shortestPin, hardwareVersion, firmwareVersion, utcTime } | null, pin, group }], travels: { keyType: "wrapped" | "for each member" | "not" } | null, partial: { mechanism: [member] }, problems: [{ member, severity: "error" | "warning", problem, advice }] }',
  run: async (shell) => {
    const verification = await verifyMembers(shell);
    shell.output.give(verification, () => show(shell.output, verification));
    const { problems } = verification;
    if (problems.some(({ severity }) => severity === 'error')) return EXIT.failed;
    return problems.length > 0 ? EXIT.degraded : EXIT.good;
  },
};
