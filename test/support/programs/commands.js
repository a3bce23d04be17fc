// Loop of a program that tests command: a line `{ command, arguments }` is answered by `{ value }` or `{ error }`.
import { createInterface } from 'node:readline';

/** Restores byte strings, which JSON.stringify writes as objects. */
const revive = (_key, value) => (value?.type === 'Buffer' ? Buffer.from(value.data) : value);

/** Tells that the program is ready, and runs commands in order until its standard input ends. */
export async function obey(ready, commands) {
  const tell = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
  tell({ value: ready });
  for await (const line of createInterface({ input: process.stdin })) {
    const { command, arguments: values } = JSON.parse(line, revive);
    try {
      tell({ value: await commands[command](...values) });
    } catch (error) {
      tell({ error: error.message });
    }
  }
}
