import { outcomeOf } from '../../../core/status/outcome.js';
import type { CommandSpec } from '../command.js';
import { EXIT } from '../exit-code.js';

const meanings = {
  done: 'the change has happened',
  'not done': 'the change has not happened',
  unknown: 'the change is under way, or no record tells of it any more',
};

export const outcome: CommandSpec = {
  usage: 'outcome <operation>',
  summary: 'tell what became of a change whose outcome was unknown',
  description: 'The error of such a change names its operation. Exits with 0 if the change is done, else with 1.',
  arguments: ['operation of the change'],
  examples: ['pkcs11-ha outcome 5f0c2d9b1e7a4c33'],
  shape: '{ operation, outcome: "done" | "not done" | "unknown" }',
  run: (shell, [operation = '']) =>
    shell.withGroup(async (open) => {
      const until = open.now() + open.group.policy.deadline;
      const found = await open.run(outcomeOf(open.group, operation, until), shell.signal);
      shell.output.give({ operation, outcome: found }, () => shell.output.line(`${found}: ${meanings[found]}`));
      return found === 'done' ? EXIT.good : EXIT.failed;
    }),
};
