import type { Difference } from '../../../core/administration/difference-repair.js';
import {
  type SynchronizationReport,
  synchronize as synchronizeMembers,
} from '../../../core/administration/synchronization.js';
import type { CommandSpec } from '../command.js';
import { EXIT, type ExitCode } from '../exit-code.js';
import type { Output } from '../terminal/output.js';

function show(output: Output, { dryRun, members, away, differences }: SynchronizationReport): void {
  output.table(
    ['member', 'objects'],
    [
      ...members.map(({ name, objects }) => [name, String(objects)]),
      ...away.map((name) => [name, output.paint('red', 'away')]),
    ],
  );
  output.line();
  if (differences.length === 0) {
    output.line(
      output.paint('green', away.length > 0 ? 'The compared members are in step.' : 'All members are in step.'),
    );
    return;
  }
  output.table(
    ['difference', 'member', 'handle', 'label', 'id', dryRun ? 'found' : 'done', 'why'],
    differences.map(({ kind, member, object: { handle, label, id }, action, reason }) => [
      kind,
      member,
      handle === 0 ? '-' : String(handle),
      label,
      id,
      action,
      reason,
    ]),
  );
  if (dryRun) output.line('\nNothing was changed. Run the command without --dry-run to repair what can be repaired.');
}

function codeOf({ differences, away }: SynchronizationReport): ExitCode {
  const isLeft = ({ action }: Difference): boolean => action !== 'repaired';
  return away.length > 0 || differences.some(isLeft) ? EXIT.degraded : EXIT.good;
}

export const synchronize: CommandSpec = {
  usage: 'synchronize',
  summary: 'compare the objects of all members, and repair differences',
  description:
    'Copies to each member the objects that it lacks, and tells apart different keys of one name. Objects of unknown origin are ' +
    'reported, and neither copied nor destroyed. Applications go on meanwhile. You can interrupt the command and run it again.',
  options: [{ flags: '--dry-run', description: 'only report the differences' }],
  examples: ['pkcs11-ha synchronize --dry-run', 'pkcs11-ha synchronize'],
  shape:
    '{ dryRun, members: [{ name, objects }], away: [name], differences: [{ kind: "missing" | "misaligned" | "twins" | "destroyed" | "foreign" | "hollow", member, object: { handle, label, id }, action: "repaired" | "reported" | "failed", reason }] }',
  run: (shell, _args, options) =>
    shell.withGroup(async (open) => {
      const dryRun = options.dryRun === true;
      const report = await shell.administer(open, 'synchronize', (group, deadline) =>
        synchronizeMembers(group, { dryRun }, deadline),
      );
      shell.output.give(report, () => show(shell.output, report));
      return codeOf(report);
    }),
};
