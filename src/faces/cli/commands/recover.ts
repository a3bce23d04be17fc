import { recoverMember } from '../../../core/administration/duty.js';
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
  summary: 'have members that are away come back, and catch up',
  description:
    'Brings a member, or all of them, back into step: it gets what it has missed. Applications take it back by themselves, ' +
    'at once or within seconds; those with `recovery: manual` when their own `recover` says so.',
  arguments: ['the member; all that are away where none is named'],
  examples: ['pkcs11-ha recover', 'pkcs11-ha recover hsm2'],
  shape: '{ members: [{ name, state, reason }] }',
  run: (shell, [wanted]) =>
    shell.withGroup(async (open) => {
      const { group } = open;
      const members = group.members.filter(({ name }) => wanted === undefined || name === wanted);
      if (members.length === 0) throw new Failure(`there is no member ${wanted}`, '`pkcs11-ha status` lists them');
      const outcomes: Outcome[] = [];
      for (const member of members) {
        const { name } = member;
        // What an operator has put to rest stays there, unless it was meant.
        const rests = wanted === undefined && group.orderFor(member) !== undefined;
        try {
          if (!rests) await shell.administer(open, 'recover', (each, deadline) => recoverMember(each, name, deadline));
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
    }),
};
