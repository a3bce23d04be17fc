import { bothWrite } from './both-write.js';
import { interruptions } from './interruptions.js';
import { recoveries } from './recoveries.js';
import { restore, upgrade } from './upgrade.js';

/** Scenarios: `run` takes a bed and resolves with what it counted; it throws an error that names the fault. */
export const scenarios = [bothWrite, ...interruptions, ...recoveries, upgrade, restore];
