// Application of one version, in a process of its own: `program.js PACKAGE`. Requests come on standard input, a line of
// JSON each: {id, call, args}. Several may run at once. `open` opens the virtual token; any other call is its method.
import { createInterface } from 'node:readline';

const { VirtualToken } = await import(`${process.argv[2]}/dist/index.js`);
let token;

/** Makes Buffers of the objects that JSON.stringify makes of them. */
const revive = (_key, value) => (value?.type === 'Buffer' ? Buffer.from(value.data) : value);
const tell = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

async function perform({ id, call, args }) {
  try {
    if (call === 'open') token = await VirtualToken.open(...args);
    const result = call === 'open' ? undefined : await token[call](...args);
    tell({ id, result });
  } catch ({ name, code, message, operation }) {
    tell({ id, error: { name, code, message, operation } });
  }
}

for await (const line of createInterface({ input: process.stdin })) void perform(JSON.parse(line, revive));
process.exit(0);
