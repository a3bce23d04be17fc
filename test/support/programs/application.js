// Application that a test commands: `application.js CONFIGURATION`. Its commands are the methods of its virtual token.
import { VirtualToken } from '../../../dist/index.js';
import { obey } from './commands.js';

const token = await VirtualToken.open(JSON.parse(process.argv[2]));
const methods = new Proxy(
  {},
  {
    get:
      (_, name) =>
      (...values) =>
        token[name](...values),
  },
);
await obey(token.status(), methods);
await token.close();
