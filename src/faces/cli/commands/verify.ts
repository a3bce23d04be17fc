import { awaitInService } from '../../../core/administration/create-group.js';
import { TokenError } from '../../../core/base/error.js';
import { reasonOf } from '../../../core/base/state.js';
import type { GroupConfig } from '../../../core/configuration/configuration.js';
import { membersBeyond } from '../../../core/records/record.js';
import { type Inspection, inspectMember } from '../../../core/status/inspection.js';
import { type KeyTravel, probeWrapping } from '../../../core/wrapping/wrap-probe.js';
import { CKF } from '../../../spec/codes.js';
import { mechanismName } from '../../../spec/constants.js';
import type { CommandSpec } from '../command.js';
import { EXIT } from '../exit-code.js';
import type { Shell } from '../shell.js';
import { type Output, printable } from '../terminal/output.js';

type Replication = GroupConfig['policy']['replication'];
/** Clocks that are further apart are worth a word (ms). */
const CLOCKS_APART = 60_000;
/** So many mechanisms are named; `--json` has all. */
const MOST_NAMED = 12;

interface Problem {
  readonly member: string;
  /** `error`: no group can be made or used with it. */
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
  /** How keys travel, by key type; null where there is no group yet, or not all members are there. */
  readonly travels: Readonly<Record<string, KeyTravel>> | null;
  /** Mechanisms that only some members have, and which have them. */
  readonly partial: Readonly<Record<string, readonly string[]>>;
  readonly problems: readonly Problem[];
}

function pinStateOf(flags: number): string {
  if ((flags & CKF.userPinLocked) !== 0) return 'locked';
  if ((flags & CKF.userPinFinalTry) !== 0) return 'one try left';
  if ((flags & CKF.userPinCountLow) !== 0) return 'was refused lately';
  return (flags & CKF.userPinToBeChanged) !== 0 ? 'has to be changed' : 'good';
}

/** ms of the token's clock; undefined where it has none. */
function clockOf({ flags, utcTime }: Inspection['token']): number | undefined {
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)/u.exec(utcTime);
  if ((flags & CKF.clockOnToken) === 0 || parts === null) return undefined;
  const [year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0] = parts.slice(1).map(Number);
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

function problemsOf(inspection: Inspection, replication: Replication): Problem[] {
  const { member, token, wraps, storageProblem } = inspection;
  const problems: Problem[] = [];
  const note = (severity: Problem['severity'], problem: string, advice: string): void => {
    problems.push({ member, severity, problem, advice });
  };
  const pin = pinStateOf(token.flags);
  if (pin !== 'good')
    note('warning', `the user PIN ${pin}`, 'look who tries another one; `pkcs11-ha pin change` sets a new one');
  if ((token.flags & CKF.loginRequired) === 0)
    note('warning', 'the token asks for no login', 'whoever reaches the library can use its keys: set a PIN');
  if ((token.flags & CKF.writeProtected) !== 0)
    note('error', 'the token is write-protected', 'no records can be written there: lift the protection');
  if (storageProblem !== undefined)
    note('error', storageProblem, 'a group needs room for its records: see the token’s policies');
  if (wraps.length === 0 && replication !== 'external')
    note(
      'error',
      'it does not say that it wraps and unwraps with AES',
      "allow it in the token's policies, or set policy.replication: external",
    );
  const clock = clockOf(token);
  if (clock !== undefined && Math.abs(clock - Date.now()) > CLOCKS_APART)
    note(
      'warning',
      `its clock is ${Math.round((clock - Date.now()) / 1000)} s off this machine's`,
      "set the token's clock, or this machine's",
    );
  return problems;
}

/** Mechanisms that some of the members lack. */
function partialOf(inspections: readonly Inspection[]): Record<string, string[]> {
  const partial: Record<string, string[]> = {};
  const types = new Set(inspections.flatMap(({ mechanisms }) => [...mechanisms.keys()]));
  for (const type of [...types].sort((one, other) => one - other)) {
    const having = inspections.filter(({ mechanisms }) => mechanisms.has(type)).map(({ member }) => member);
    if (having.length < inspections.length) partial[mechanismName(type)] = having;
  }
  return partial;
}

/** On an open group whose members are all there: session objects go from one to the other. */
async function travelsOf(shell: Shell): Promise<Readonly<Record<string, KeyTravel>> | null> {
  return await shell.withGroup(async (open) => {
    const { group } = open;
    await open.run(awaitInService(group, open.now() + group.policy.deadline), shell.signal);
    if (!group.members.every(({ isServing }) => isServing)) return null;
    const { travels } = await shell.administer(open, 'verify', (each, deadline) => probeWrapping(each, deadline));
    return travels;
  });
}

async function verifyMembers(shell: Shell): Promise<Verification> {
  const config = await shell.completeConfiguration();
  const found = await shell.withHosts(config, async (open) => {
    const { group } = open;
    // Tokens are looked at as they are, whatever group they are of.
    group.isBeingCreated = true;
    const within = config.policy.deadline;
    await open.run(awaitInService(group, open.now() + within), shell.signal);
    const inspections: Inspection[] = [];
    const problems: Problem[] = [];
    const members: VerifiedMember[] = [];
    for (const member of group.members) {
      const inspection = member.isServing
        ? await open.run(inspectMember(group, member, open.now() + within), shell.signal)
        : undefined;
      const { name, state } = member;
      if (inspection === undefined) {
        const problem = reasonOf(state) === '' ? 'it does not answer' : reasonOf(state);
        const isResting = state.name === 'drained';
        const advice = isResting
          ? 'take `drained` out of the configuration to have it serve'
          : 'check the library’s path, `env`, which token is meant, and the PIN';
        problems.push({ member: name, severity: isResting ? 'warning' : 'error', problem, advice });
      } else {
        inspections.push(inspection);
        problems.push(...problemsOf(inspection, config.policy.replication));
      }
      members.push({
        name,
        module: member.config.module,
        state: state.name,
        token: inspection === undefined ? null : { slot: member.connection?.slot, ...inspection.token },
        pin: inspection === undefined ? '?' : pinStateOf(inspection.token.flags),
        group: inspection?.group?.label ?? null,
      });
    }
    return { inspections, members, problems };
  });
  const { inspections, members, problems } = found;
  const isAllThere = inspections.length === config.members.length;
  const ids = new Set(inspections.map(({ group }) => group?.id));
  if (ids.size > 1)
    problems.push({
      member: 'all',
      severity: 'error',
      problem: `they are not of one group: ${inspections.map(({ member, group }) => `${member} ${group === undefined ? 'has no record' : `is of ${group.label}`}`).join(', ')}`,
      advice: '`pkcs11-ha member add` makes a token a member, `group create --existing` starts over',
    });
  const serials = inspections.map(({ token: { serialNumber } }) => serialNumber);
  const record = inspections.map(({ group }) => group).sort((a, b) => (b?.revision ?? 0) - (a?.revision ?? 0))[0];
  if (isAllThere)
    for (const { name, serial } of membersBeyond(record, serials))
      problems.push({
        member: name,
        severity: 'warning',
        problem: `the group has this member (serial ${serial}), the configuration does not`,
        advice: `put it in the configuration, or \`pkcs11-ha member remove ${name}\``,
      });
  const isWhole = isAllThere && ids.size === 1 && !ids.has(undefined);
  let travels: Verification['travels'] = null;
  if (isWhole && problems.every(({ severity }) => severity === 'warning')) {
    try {
      travels = await travelsOf(shell);
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      const advice = '`pkcs11-ha status` tells how each member is';
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
      '\nMechanisms that only some members have; calls go to those, keys that need them cannot be unwrapped or derived:',
    );
    const shown = Object.entries(partial).slice(0, MOST_NAMED);
    output.table(
      ['mechanism', 'on'],
      shown.map(([name, having]) => [name, having.join(', ')]),
    );
    const more = Object.keys(partial).length - shown.length;
    if (more > 0) output.line(`and ${more} more: --json has all`);
  }
  output.line();
  if (travels === null) output.line('How keys travel was not tried: that takes a group, and all its members.');
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
  summary: "look at every member's token, and tell what is wrong with it",
  description:
    'Which token it is, whether the PIN is right, whether it can keep records and wrap keys, how each type of key travels between the ' +
    'members, what only some of them can do, and what to do about each problem. Only session objects are made.',
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
