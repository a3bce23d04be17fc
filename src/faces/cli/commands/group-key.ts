import { resolve } from 'node:path';
import type { CommandSpec } from '../command.js';
import { makeAdministrationKey } from '../configuration/administration-setup.js';
import { administrationLines } from '../configuration/configuration-text.js';
import { EXIT } from '../exit-code.js';

export const keyCommand: CommandSpec = {
  usage: 'group key <file>',
  summary: 'make an administration key',
  description:
    'Writes the private half to a file that only its owner can read, and prints the settings for the configuration. Accesses no ' +
    'token.',
  arguments: ['the file for the private half'],
  examples: ['pkcs11-ha group key /etc/pkcs11-ha/otp.administration-key'],
  shape: '{ publicKey, file }',
  run: async (shell, [file = '']) => {
    const path = resolve(file);
    const { administration } = makeAdministrationKey(path);
    shell.output.give({ publicKey: administration.publicKey, file: path }, () => {
      for (const line of administrationLines(administration)) shell.output.line(line);
    });
    return await Promise.resolve(EXIT.good);
  },
};
