import { readFileSync, statfsSync } from 'node:fs';

/** Folder in memory. SoftHSM makes some thirty writes per object; on a disk the tests take a third longer. */
const FOLDER = '/dev/shm';
/** Free space below which the tests use the usual folder (bytes). */
const FREE_LIMIT = 2 ** 30;

/** Returns the folder in memory for tokens; undefined if there is none, it is too small, or it runs no programs. */
export function memoryFolder() {
  const mount = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .find(([, path, type]) => path === FOLDER && type === 'tmpfs');
  const options = mount?.[3]?.split(',') ?? [];
  if (!options.includes('rw') || options.includes('noexec')) return undefined;
  const { bavail, bsize } = statfsSync(FOLDER);
  return bavail * bsize < FREE_LIMIT ? undefined : FOLDER;
}
