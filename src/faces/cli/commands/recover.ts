import { recoverMember } from '../../../core/administration/recover-member.js';
import { TokenError } from '../../../core/base/error.js';
import { reasonOf } from '../../../core/base/state.js';
import type { CommandSpec } from '../command.js';
import { EXIT } from '../exit-code.js';
import { Failure } from '../failure.js';

interface Outcome {
  readonly name: string;
  readonly state: string;
  readonly reason: string;
}

export const recover: CommandSpec = {
  usage: 'recover [member]',
  summary: 'bring back members that are away',
  description:
    'Makes a member, or all members that are away, catch up with the changes that they missed. Tries a PIN once more that a token has refused. Open applications take the member ' +
    'back by themselves within seconds; with `recovery: manual` they do so when they call `recover` themselves.',
  arguments: ['name of the member (default: all members that are away)'],
  examples: ['pkcs11-ha recover', 'pkcs11-ha recover hsm2'],
  shape: '{ members: [{ name, state, reason }] }',
  run: (shell, [wanted]) =>
    shell.withGroup(
      async (open) => {
        const { group } = open;
        const members = group.members.filter(({ name }) => wanted === undefined || name === wanted);
        if (members.length === 0)
          throw new Failure(`no member ${wanted}`, 'run `pkcs11-ha status` to list the members');
        const outcomes: Outcome[] = [];
        for (const member of members) {
          const { name } = member;
          // Leaves a member drained that an operator has drained, unless the command names it.
          const isDrained = wanted === undefined && group.orderFor(member) !== undefined;
          try {
            if (!isDrained)
              await shell.administer(open, 'recover', (each, deadline) => recoverMember(each, name, deadline));
            outcomes.push({ name, state: member.state.name, reason: reasonOf(member.state) });
          } catch (error) {
            if (!(error instanceof TokenError) || wanted !== undefined) throw error;
            outcomes.push({ name, state: member.state.name, reason: error.message });
          }
        }
        const { output } = shell;
        output.give({ members: outcomes }, () =>
          output.table(
            ['member', 'state', 'why'],
            outcomes.map(({ name, state, reason }) => [name, state, reason]),
          ),
        );
        return outcomes.every(({ state }) => ['active', 'standby', 'drained'].includes(state))
          ? EXIT.good
          : EXIT.degraded;
      },
      { triesAgain: wanted ?? 'all' },
    ),
};
