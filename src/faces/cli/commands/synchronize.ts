import {
  type Difference,
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
      ...away.map((name) => [name, output.paint('red', 'not there')]),
    ],
  );
  output.line();
  if (differences.length === 0) {
    output.line(output.paint('green', `All that was compared is in step${away.length > 0 ? '' : ' on all members'}.`));
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
  if (dryRun) output.line('\nNothing was changed. Without --dry-run it is repaired, as far as it can be.');
}

function codeOf({ differences, away }: SynchronizationReport): ExitCode {
  const isLeft = ({ action }: Difference): boolean => action !== 'repaired';
  return away.length > 0 || differences.some(isLeft) ? EXIT.degraded : EXIT.good;
}

export const synchronize: CommandSpec = {
  usage: 'synchronize',
  summary: 'compare all that the members have, and repair what is different',
  description:
    'What a member lacks is copied to it; keys that go by one name are told apart; what nobody can explain is reported ' +
    'and neither spread nor destroyed. Applications go on meanwhile. It may be interrupted, and given again.',
  options: [{ flags: '--dry-run', description: 'only tell what is different' }],
  examples: ['pkcs11-ha synchronize --dry-run', 'pkcs11-ha synchronize'],
  shape:
    '{ dryRun, members: [{ name, objects }], away: [name], differences: [{ kind: "missing" | "misaligned" | "twins" | "foreign" | "hollow", member, object: { handle, label, id }, action: "repaired" | "reported" | "failed", reason }] }',
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
