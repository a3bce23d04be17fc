import { TokenError } from '../../../core/base/error.js';
import { runCall } from '../../../core/call/call.js';
import { findObjects } from '../../../core/call/find.js';
import { awaitJoins } from '../../../core/group/coming.js';
import type { Member } from '../../../core/group/member.js';
import { random } from '../../../core/jobs/operation.js';
import { membersBeyond } from '../../../core/records/record.js';
import { type MemberStatus, statusOf } from '../../../core/status/status.js';
import type { OpenGroup } from '../../../runtime/groups/open-group.js';
import { type CommandSpec, textOf } from '../command.js';
import { EXIT, type ExitCode } from '../exit-code.js';
import { UsageError } from '../failure.js';
import type { Shell } from '../shell.js';
import { type Colour, type Output, printable } from '../terminal/output.js';
import { clearScreen, duration, untilChanged } from '../terminal/watching.js';
import { NOT_SIGNED } from './group-show.js';

/** Number of calls that are measured for each member; the median counts. */
const SAMPLES = 5;
/** Time limit of a measured call (ms). */
const LOOK_WITHIN = 5000;
/** Time limit for counting objects (ms). */
const COUNT_WITHIN = 60_000;

interface MemberSnapshot extends MemberStatus {
  /** Duration of C_GenerateRandom on the member (ms); undefined if the member does not serve. */
  readonly latency: number | undefined;
  /** Number of the group's objects on the member; undefined if the member does not serve. */
  readonly objects: number | undefined;
}

interface GroupSnapshot {
  readonly label: string;
  readonly serial: string;
  readonly state: 'good' | 'degraded' | 'down';
  /** Number of objects in the group; undefined if no member can tell. */
  readonly objects: number | undefined;
  readonly members: readonly MemberSnapshot[];
  /** Members in the group's record that the configuration does not name. */
  readonly unconfigured: readonly { readonly name: string; readonly serial: string }[];
  /** Problem of the coordination among processes; null if there is none. */
  readonly problem: string | null;
  /** False if no administration key that is known here has signed the group's record; null without a record. */
  readonly isSigned: boolean | null;
  /** False if what the group holds is what one member alone says. */
  readonly isConfirmed: boolean;
}

async function latencyOf(open: OpenGroup, member: Member): Promise<number | undefined> {
  if (!member.isServing) return undefined;
  const times: number[] = [];
  try {
    for (let i = 0; i < SAMPLES; i += 1) {
      const startedAt = open.now();
      await open.run(runCall(open.group, { ...random(16), only: member }, startedAt + LOOK_WITHIN));
      times.push(open.now() - startedAt);
    }
  } catch {
    return undefined;
  }
  return times.sort((one, other) => one - other)[SAMPLES >> 1];
}

/** Counts the group's objects, and those that each member lacks; undefined if no member can tell. */
async function countObjects(
  open: OpenGroup,
): Promise<{ total: number; lacking: ReadonlyMap<string, number> } | undefined> {
  try {
    const objects = await open.run(findObjects(open.group, [], open.now() + COUNT_WITHIN));
    const lacking = new Map<string, number>();
    for (const { replicaStatus } of objects)
      for (const [member, state] of replicaStatus)
        if (state === 'absent' || state === 'misaligned') lacking.set(member, (lacking.get(member) ?? 0) + 1);
    return { total: objects.length, lacking };
  } catch (error) {
    if (error instanceof TokenError) return undefined;
    throw error;
  }
}

async function takeSnapshot(open: OpenGroup): Promise<GroupSnapshot> {
  const { group } = open;
  const serves = group.members.some(({ isServing }) => isServing);
  const objects = serves ? await countObjects(open) : undefined;
  const latencies = await Promise.all(group.members.map((member) => latencyOf(open, member)));
  const status = statusOf(group);
  const members = status.members.map((member, index) => ({
    ...member,
    latency: latencies[index],
    objects:
      objects === undefined || latencies[index] === undefined
        ? undefined
        : objects.total - (objects.lacking.get(member.name) ?? 0),
  }));
  // Reports unconfigured members only if all serials are known: a member may have another name in this configuration.
  const areKnown = members.every(({ serial }) => serial !== undefined);
  const serials = members.map(({ serial }) => serial);
  const unconfigured = areKnown
    ? membersBeyond(group.ledger.record, serials).map(({ name, serial }) => ({ name, serial }))
    : [];
  const isWhole =
    unconfigured.length === 0 &&
    objects !== undefined &&
    members.every(
      ({ state, behind, objects: own }) =>
        (state === 'active' || state === 'standby') && behind === 0 && own === objects.total,
    );
  return {
    label: status.label,
    serial: status.serial,
    // Counts a stale member as serving: it still serves calls that change nothing.
    state: !group.members.some(({ isServing }) => isServing) ? 'down' : isWhole ? 'good' : 'degraded',
    objects: objects?.total,
    members,
    unconfigured,
    problem: status.problem ?? null,
    isSigned: status.isSigned ?? null,
    isConfirmed: status.isConfirmed,
  };
}

const colours: Readonly<Record<string, Colour>> = {
  active: 'green',
  standby: 'green',
  good: 'green',
  joining: 'yellow',
  recovering: 'yellow',
  stale: 'yellow',
  suspect: 'yellow',
  degraded: 'yellow',
  drained: 'dim',
  down: 'red',
};

function inStep({ behind, objects }: MemberSnapshot, total: number | undefined): string {
  if (behind > 0) return `${behind} ${behind === 1 ? 'change' : 'changes'} behind`;
  if (objects === undefined || total === undefined) return '?';
  return objects === total ? 'in step' : `lacks ${total - objects}`;
}

function show(output: Output, snapshot: GroupSnapshot): void {
  const { label, serial, state, objects, members, unconfigured, problem, isSigned, isConfirmed } = snapshot;
  const painted = (text: string): string => output.paint(colours[text] ?? 'bold', text);
  output.line(
    `${printable(label)} (serial ${serial}): ${painted(state)}, ${objects === undefined ? 'objects unknown' : `${objects} objects`}`,
  );
  output.line();
  output.table(
    ['member', 'state', 'for', 'serial', 'latency', 'objects', 'in step', 'why'],
    members.map((member) => [
      member.name,
      painted(member.state),
      duration(member.since),
      member.serial ?? '?',
      member.latency === undefined ? '-' : `${member.latency.toFixed(1)} ms`,
      member.objects === undefined ? '-' : String(member.objects),
      inStep(member, objects),
      member.reason,
    ]),
  );
  for (const { name, serial } of unconfigured)
    output.line(
      `\n${output.paint('yellow', 'warning')} ${printable(name)} (serial ${serial}) is a member, but not in this configuration; add it there, or run \`pkcs11-ha member remove ${printable(name)}\``,
    );
  if (isSigned === false) output.line(`\n${output.paint('yellow', 'warning')} the group's record is ${NOT_SIGNED}`);
  if (!isConfirmed && state !== 'down')
    output.line(
      `\n${output.paint('yellow', 'warning')} the objects are not confirmed by a second member: bring another one into service and in step`,
    );
  if (problem !== null) output.line(`\n${output.paint('yellow', 'warning')} ${problem}`);
}

function codeOf({ state }: GroupSnapshot): ExitCode {
  if (state === 'good') return EXIT.good;
  return state === 'down' ? EXIT.failed : EXIT.degraded;
}

/** Waits until members serve or have failed; ignores the error if none serves, because the status shows that. */
async function awaitMembers(shell: Shell, open: OpenGroup): Promise<void> {
  try {
    await shell.awaitService(open);
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    // Members that have not failed yet would be shown without the reason.
    await open.run(awaitJoins(open.group, open.now() + LOOK_WITHIN));
  }
}

async function watch(shell: Shell, open: OpenGroup, interval: number): Promise<ExitCode> {
  const { output, signal } = shell;
  let snapshot = await takeSnapshot(open);
  while (!signal.aborted) {
    output.give(snapshot, () => {
      clearScreen(output);
      show(output, snapshot);
      output.line();
      output.line(output.paint('dim', `${new Date().toTimeString().slice(0, 8)}, every ${interval} s; Ctrl-C ends`));
    });
    await untilChanged(open, interval * 1000, signal);
    if (!signal.aborted) snapshot = await takeSnapshot(open);
  }
  return codeOf(snapshot);
}

export const status: CommandSpec = {
  usage: 'status',
  summary: 'show the state of each member, since when, and why',
  description:
    'Opens the group as an application does, with its own hosts, and shows what an application that starts now would find. ' +
    'Latency is the time of one C_GenerateRandom on that member.',
  options: [
    { flags: '--watch', description: 'keep running, and redraw when something changes' },
    { flags: '--interval <seconds>', description: 'with --watch: longest time between redraws (default: 2)' },
  ],
  examples: ['pkcs11-ha status', 'pkcs11-ha status --watch', 'pkcs11-ha status --json'],
  shape:
    '{ label, serial, state: "good" | "degraded" | "down", objects, members: [{ name, state, reason, since, serial, pid, outstanding, lanes, slowness, behind, retryIn, latency, objects }], unconfigured: [{ name, serial }], problem, isSigned, isConfirmed }; times in ms',
  run: async (shell, _args, options) => {
    const interval = Number(textOf(options, 'interval') ?? 2);
    if (!(interval >= 0.1 && interval <= 3600))
      throw new UsageError(
        `--interval: ${textOf(options, 'interval')} is not a time`,
        'give seconds, from 0.1 to 3600',
      );
    const isWatching = options.watch === true;
    const config = await shell.completeConfiguration();
    const look = async (open: OpenGroup): Promise<ExitCode> => {
      await awaitMembers(shell, open);
      if (isWatching) return await watch(shell, open, interval);
      const snapshot = await takeSnapshot(open);
      shell.output.give(snapshot, () => show(shell.output, snapshot));
      return codeOf(snapshot);
    };
    return await shell.withHosts(config, look, isWatching ? { path: shell.path } : {});
  },
};
