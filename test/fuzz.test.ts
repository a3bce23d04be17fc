import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';

const program = fileURLToPath(new URL('./fuzz/main.js', import.meta.url));

test('[Rule 18] mutated replies, records and configurations bring no error but the readers\u2019 own', () => {
  const output = execFileSync(process.execPath, [program, '--inputs', '2000', '--seconds', '30'], { encoding: 'utf8' });
  expect(output.match(/^\w+: \d+ inputs/gmu)?.map((line) => line.split(':')[0])).toEqual([
    'reply',
    'record',
    'configuration',
    'chrystoki',
  ]);
});
