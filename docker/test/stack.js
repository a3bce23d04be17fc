// Containers of compose.yaml, and the actions on them from outside.
import { fileURLToPath } from 'node:url';
import { run } from './run.js';
import { makeSecrets } from './secrets.js';

const folder = fileURLToPath(new URL('../', import.meta.url));
const root = fileURLToPath(new URL('../../', import.meta.url));
/** Names of the HSMs. */
export const HSMS = ['hsm1', 'hsm2', 'hsm3'];
/** Interval between status requests until the service answers (ms). */
const LOOK = 200;

export class Stack {
  #engine;
  #project;
  #secrets;

  /** `project`: name of the compose project; `secrets`: folder of the secrets. */
  constructor(engine, project, secrets) {
    this.#engine = engine;
    this.#project = project;
    this.#secrets = secrets;
  }

  /** Builds the images from this working tree. */
  async build(say) {
    say('building the image of an HSM');
    await this.#engine.build('pkcs11-ha-hsm', `${folder}hsm`, 'Dockerfile');
    say('building the image of the service, with the package as npm installs it');
    await this.#engine.build('pkcs11-ha-app', root, 'docker/app/Dockerfile');
  }

  async up() {
    await makeSecrets(this.#secrets, HSMS);
    await this.compose('up', '-d', '--no-build');
  }

  /** Removes containers, network and volumes. */
  async down() {
    await this.compose('down', '-v', '--remove-orphans', '-t', '3');
  }

  compose(...args) {
    const [command, ...before] = this.#engine.compose;
    const file = ['-f', `${folder}compose.yaml`, '-p', this.#project];
    return run(command, [...before, ...file, ...args], { env: { PKCS11_HA_SECRETS: this.#secrets } });
  }

  /** Finds a service's container by its label, because compose 1 and 2 name containers differently. */
  async idOf(service) {
    const filters = [
      `label=com.docker.compose.project=${this.#project}`,
      `label=com.docker.compose.service=${service}`,
    ];
    const ids = await run('docker', ['ps', '-aq', ...filters.flatMap((filter) => ['--filter', filter])]);
    return ids.trim().split('\n')[0];
  }

  /** Runs `docker VERB CONTAINER`: kill, start, stop, pause, unpause, restart. */
  async act(verb, service) {
    await run('docker', [verb, await this.idOf(service)]);
  }

  /** Disconnects a service from the network. */
  async cutOff(service) {
    await run('docker', ['network', 'disconnect', '-f', `${this.#project}_hsms`, await this.idOf(service)]);
  }

  async connect(service) {
    await run('docker', ['network', 'connect', '--alias', service, `${this.#project}_hsms`, await this.idOf(service)]);
  }

  async execute(service, ...command) {
    return run('docker', ['exec', await this.idOf(service), ...command]);
  }

  logs(service) {
    return this.compose('logs', '--no-color', '--tail', '60', service);
  }

  /**
   * Starts a second service, `peer`, beside the first one: with its volumes, so that it shares the lock folder, and with
   * its secrets.
   */
  async startPeer() {
    const app = await this.idOf('app');
    const variables = (await run('docker', ['exec', app, 'env']))
      .split('\n')
      .filter((line) => /^(?:HSMS|FIRST_MEMBERS|PKCS11_HA_\w+)=/u.test(line));
    const labels = { project: this.#project, service: 'peer', oneoff: 'False' };
    await run('docker', [
      'run',
      '--detach',
      `--network=${this.#project}_hsms`,
      `--volumes-from=${app}`,
      '--tmpfs=/run:mode=1777',
      '--read-only',
      ...variables.map((variable) => `--env=${variable}`),
      ...Object.entries(labels).map(([name, value]) => `--label=com.docker.compose.${name}=${value}`),
      'pkcs11-ha-app',
    ]);
    await this.untilServing('peer');
  }

  /** Removes the second service. */
  async removePeer() {
    await run('docker', ['rm', '-f', await this.idOf('peer')]);
  }

  /** Sends a request to a service (see docker/app/service.js) and returns the answer. */
  async ask(name, parameters = {}, service = 'app') {
    const id = await this.idOf(service);
    const asked = ['exec', id, 'node', 'control.js', name, JSON.stringify(parameters)];
    const { code, output, errors } = await run('docker', asked, { code: true });
    if (code !== 0) throw new Error(`${name}: ${output}${errors}`);
    return JSON.parse(output);
  }

  /** Resolves when a member is in one of the states, or has been since `since` (default: the report's beginning). */
  untilState(member, states, since) {
    return this.ask('await', { member, states, since });
  }

  /** Waits until the service answers; throws if it does not within `within` ms. */
  async untilServing(service = 'app', within = 60_000) {
    for (const until = Date.now() + within; ; await new Promise((resolve) => setTimeout(resolve, LOOK))) {
      const last = await this.ask('status', {}, service).catch((error) => error);
      if (!(last instanceof Error)) return;
      if (Date.now() > until)
        throw new Error(`the service did not start within ${within} ms: ${last.message}\n${await this.logs(service)}`);
    }
  }

  /** Runs the operator's tool in the service's container. */
  operate(...args) {
    return this.execute('app', 'pkcs11-ha', ...args);
  }

  /** Returns the labels of the secret keys on an HSM's token, read without the group. */
  async labelsOn(hsm) {
    return JSON.parse(await this.execute('app', 'node', 'look.js', hsm));
  }

  /** Runs look.js for all HSMs with a certificate that no HSM has registered; returns `[{ hsm, code, output }]`. */
  async lookAsStranger() {
    const mounted = { hsm_pin: 'hsm_pin', client_key: 'stranger_key', client_certificate: 'stranger_certificate' };
    for (const name of HSMS) mounted[`${name}_certificate`] = `${name}_certificate`;
    const mounts = Object.entries(mounted).map(
      ([target, source]) => `--volume=${this.#secrets}/${source}:/run/secrets/${target}:ro`,
    );
    const hsms = HSMS.map((name) => `${name}=${name}:2407`).join(' ');
    const options = [`--network=${this.#project}_hsms`, `--env=HSMS=${hsms}`, ...mounts];
    // Prints each exit code, because not every API reports the exit code of a container that is removed at its end.
    const look = ['bash', '-c', 'for hsm; do node look.js "$hsm"; printf "\\t%d\\n" $?; done', 'bash', ...HSMS];
    const printed = await run('docker', ['run', '--rm', ...options, 'pkcs11-ha-app', ...look]);
    const lines = printed.trimEnd().split('\n');
    return HSMS.map((hsm, index) => {
      const [output, code] = lines[index].split('\t');
      return { hsm, code: Number(code), output };
    });
  }
}
