import type { CommandSpec } from './command.js';
import { backupCommands } from './commands/backup.js';
import { completion } from './commands/completion.js';
import { groupCommands } from './commands/group.js';
import { importChrystoki } from './commands/import-chrystoki.js';
import { keyCommands } from './commands/key.js';
import { memberCommands } from './commands/member.js';
import { objects } from './commands/objects.js';
import { outcome } from './commands/outcome.js';
import { pinCommands } from './commands/pin.js';
import { recover } from './commands/recover.js';
import { status } from './commands/status.js';
import { synchronize } from './commands/synchronize.js';
import { verify } from './commands/verify.js';

/** All commands, in the order in which `--help` lists them. */
export const commands: readonly CommandSpec[] = [
  verify,
  status,
  objects,
  ...groupCommands,
  ...memberCommands,
  synchronize,
  recover,
  ...keyCommands,
  outcome,
  ...pinCommands,
  ...backupCommands,
  importChrystoki,
  completion,
];
