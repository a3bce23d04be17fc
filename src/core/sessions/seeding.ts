import { CKR } from '../../spec/codes.js';
import { step } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runTogether } from '../base/waiting.js';
import { runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';

/** Gives a seed to every serving member (C_SeedRandom, section 5.15); fails if no member takes it. */
export function* seedRandom(group: Group, seed: Uint8Array, deadline: number): Task<void> {
  const serving = group.members.filter(({ isServing }) => isServing);
  const memberJob = {
    function: 'C_SeedRandom',
    objects: [],
    isReading: true,
    job: () => ({ steps: [step('C_SeedRandom', seed)] }),
  };
  const ends = yield* runTogether(
    group,
    serving.map((member) => runOnMember(group, member, memberJob, deadline)),
  );
  if (ends.some(({ kind }) => kind === 'done')) return;
  const refused = ends.find((end) => end.kind === 'refused');
  throw new TokenError(
    refused?.code ?? CKR.deviceRemoved,
    'C_SeedRandom',
    refused === undefined ? group.describeMembers() : '',
  );
}
