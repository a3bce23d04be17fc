import { readBackupRecord } from '../../dist/core/backup/backup-record.js';
import { ConfigurationError, parseConfiguration } from '../../dist/core/configuration/validation.js';
import { readRecord } from '../../dist/core/records/record-schema.js';
import { statementOf } from '../../dist/core/records/statement.js';
import { groupsIn, readChrystoki } from '../../dist/faces/cli/configuration/chrystoki.js';
import { Failure } from '../../dist/faces/cli/failure.js';
import { fitsJob, readReply, step } from '../../dist/spec/job.js';

const never = () => false;

/** Jobs whose replies are read. */
const jobs = [
  { steps: [step('X_Find', [], 4, [3, 0x102])] },
  { steps: [step('C_GetTokenInfo', 0), step('C_GetMechanismList', 0)] },
  { steps: [step('C_EncryptInit', { type: 1, fields: [] }, new Uint8Array(8)), step('C_Encrypt', new Uint8Array(1))] },
];

/** Readers of what comes from outside: each reads an input, and tells which errors are its own. */
export const targets = {
  /** Replies of hosts. */
  reply: {
    words: ['\0\0\0\0', '\x0f\0\0\0', '\x03\0\0\0'],
    read: (input) => {
      const reply = readReply(input);
      for (const job of jobs) fitsJob(reply, job);
    },
    expects: (error) => error instanceof RangeError,
  },
  /** Records on tokens. */
  record: {
    words: ['"kind":"group"', '"kind":"key"', '"__proto__":', '"version":2,', '"members":', '[]', '"pending":{}'],
    read: (input) => {
      readBackupRecord(input);
      const record = readRecord(input);
      if (typeof record !== 'object' || record.kind !== 'group') return;
      const again = readRecord(Buffer.from(JSON.stringify({ version: 2, ...record })));
      if (!statementOf(record).equals(statementOf(again))) throw new Error('a record changes when it is read again');
    },
    expects: never,
  },
  /** Configurations of groups. */
  configuration: {
    words: ['members:', '  - ', 'policy:', '&a ', '*a', '!!binary ', '"', '{', '[', '? ', '<<: '],
    read: (input) => parseConfiguration(input.toString('utf8'), 'fuzz.yaml'),
    expects: (error) => error instanceof ConfigurationError,
  },
  /** Configurations of Luna clients. */
  chrystoki: {
    words: ['VirtualToken = {', 'VirtualToken00Label', 'HASynchronize', '}', '[VirtualToken]', '='],
    read: (input) => groupsIn(readChrystoki(input.toString('utf8'))),
    expects: (error) => error instanceof Failure,
  },
};
