import { ck } from '../spec/constants.js';
import { step } from '../spec/job.js';
import { runErrand, together } from './errand.js';
import { TokenError } from './error.js';
import type { Group } from './group.js';
import type { Task } from './task.js';

const deviceRemoved = ck('CKR_DEVICE_REMOVED');

/** C_SeedRandom, section 5.15: every member in service gets the seed. Fails where none takes it. */
export function* seedRandom(group: Group, seed: Uint8Array, deadline: number): Task<void> {
  const serving = group.members.filter(({ isServing }) => isServing);
  const errand = {
    function: 'C_SeedRandom',
    objects: [],
    isReading: true,
    job: () => ({ steps: [step('C_SeedRandom', seed)] }),
  };
  const ends = yield* together(
    group,
    serving.map((member) => runErrand(group, member, errand, deadline)),
  );
  if (ends.some(({ kind }) => kind === 'done')) return;
  const refused = ends.find((end) => end.kind === 'refused');
  throw new TokenError(refused?.code ?? deviceRemoved, 'C_SeedRandom', refused === undefined ? group.whereabouts : '');
}
