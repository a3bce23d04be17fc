// Starts the containers, leaves them running, and says how to pull a plug; `-- --down` takes them away again.
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { findEngine } from './engine.js';
import { Stack } from './stack.js';

const { values } = parseArgs({ options: { down: { type: 'boolean', default: false } } });
const say = (text) => process.stdout.write(`${text}\n`);
const secrets = fileURLToPath(new URL('../secrets', import.meta.url));
const engine = findEngine();
if (engine.missing !== undefined) {
  say(`${engine.missing}: install Docker, with its compose plugin`);
  process.exit(1);
}
const stack = new Stack(engine, 'pkcs11-ha', secrets);

if (values.down) {
  await stack.down();
  rmSync(secrets, { recursive: true, force: true });
  engine.release();
} else {
  await stack.build(say);
  await stack.up();
  await stack.untilServing();
  const host = process.env.DOCKER_HOST === undefined ? '' : `  export DOCKER_HOST=${process.env.DOCKER_HOST}\n`;
  const [hsm1, app] = await Promise.all(['hsm1', 'app'].map((service) => stack.idOf(service)));
  const [one, service] = [hsm1, app].map((id) => id.slice(0, 12));
  say(`
Two HSMs (hsm1, hsm2), a spare one (hsm3), and a service (app) that signs and encrypts on both all the time.
${host}
  docker exec -it ${service} pkcs11-ha status --watch      the group, as it changes
  docker kill ${one}                           pull hsm1's plug
  docker start ${one}                          and put it back
  docker pause ${one}                          it hangs; docker unpause lets it go on
  docker exec ${service} node control.js report            what became of the calls: failed, wrong, longest in ms

  npm run docker:demo -- --down                       takes all of it away again
`);
}
