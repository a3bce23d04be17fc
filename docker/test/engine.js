// Search for a Docker API, and start of one if none answers.
import { Lab } from './lab.js';
import { run, works } from './run.js';

/** Runs `docker build` on the host's network, from which package registries can be reached. */
const build = (tag, context, dockerfile) =>
  run('docker', ['build', '--network', 'host', '-t', tag, '-f', `${context}/${dockerfile}`, context]);

/**
 * Finds a Docker API; returns `{ compose, build, release }`, or `{ missing }` with the reason why there is none. If no
 * API answers, starts one with the program named by CONTAINER_LAB. `build(tag, context, dockerfile)` builds an image;
 * `dockerfile` is a path in the context.
 */
export function findEngine() {
  let lab;
  if (!works('docker', 'version')) {
    const program = process.env.CONTAINER_LAB;
    if (!program || !works(program, 'env')) return { missing: 'no Docker API answers' };
    try {
      lab = new Lab(program);
    } catch (error) {
      return { missing: `no Docker API answers, and ${program} could not start one: ${error.message}` };
    }
  }
  const release = () => lab?.release();
  const compose = [['docker', 'compose'], ['docker-compose']].find(([command, ...args]) =>
    works(command, ...args, 'version'),
  );
  if (compose === undefined) {
    release();
    return { missing: 'neither docker compose nor docker-compose is installed' };
  }
  return { compose, build: lab === undefined ? build : (...image) => lab.build(...image), release };
}
