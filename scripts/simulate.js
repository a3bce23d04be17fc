// Simulates fleets: bundles test/simulation with the core of this working tree, and runs it; see test/simulation/main.ts.
import { bundle } from './bundle.js';

await bundle('test/simulation/main.ts', 'build/simulation/main.mjs');
await import('../build/simulation/main.mjs');
