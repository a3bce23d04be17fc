// Starts the containers, leaves them running, and prints how to cause outages; `-- --down` removes the containers.
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
  say(`${engine.missing}; install Docker with its compose plugin`);
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
Two HSMs (hsm1, hsm2), a spare HSM (hsm3), and a service (app) that signs and encrypts on both all the time.
${host}
  docker exec -it ${service} pkcs11-ha status --watch      show the group's state as it changes
  docker kill ${one}                           cut hsm1's power
  docker start ${one}                          start hsm1 again
  docker pause ${one}                          let hsm1 hang; docker unpause ends the hang
  docker exec ${service} node control.js report            show the calls so far: failed, wrong, longest (ms)

  npm run docker:demo -- --down                       remove everything
`);
}
