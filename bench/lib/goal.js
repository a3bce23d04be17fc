// Comparison of a measured figure with its goal.
import { rounded } from './statistics.js';

export const atLeast = (name, goal, value) => ({
  name,
  goal: `≥ ${rounded(goal)}`,
  value: rounded(value),
  met: value >= goal,
});
export const atMost = (name, goal, value) => ({
  name,
  goal: `≤ ${rounded(goal)}`,
  value: rounded(value),
  met: value <= goal,
});
