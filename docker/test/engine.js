// The Docker API that there is, or one that can be made reachable.
import { Lab } from './lab.js';
import { run, works } from './run.js';

/** `docker build`, on the host's network: that is where package registries can be reached. */
const build = (tag, context, dockerfile) =>
  run('docker', ['build', '--network', 'host', '-t', tag, '-f', `${context}/${dockerfile}`, context]);

/**
 * Makes a Docker API reachable; gives `{ compose, build, release }`, or `{ missing }` with what there is not. Where none
 * answers, the program that CONTAINER_LAB names starts one. `build(tag, context, dockerfile)` builds an image, the file being
 * named as it is in the context.
 */
export function findEngine() {
  let lab;
  if (!works('docker', 'version')) {
    const program = process.env.CONTAINER_LAB;
    if (!program || !works(program, 'env')) return { missing: 'no Docker API answers' };
    try {
      lab = new Lab(program);
    } catch (error) {
      return { missing: `no Docker API answers, and none could be started: ${error.message}` };
    }
  }
  const release = () => lab?.release();
  const compose = [['docker', 'compose'], ['docker-compose']].find(([command, ...args]) =>
    works(command, ...args, 'version'),
  );
  if (compose === undefined) {
    release();
    return { missing: 'neither docker compose nor docker-compose is there' };
  }
  return { compose, build: lab === undefined ? build : (...image) => lab.build(...image), release };
}
