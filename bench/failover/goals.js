// Goals for the cost of a failover.
import { atLeast, atMost } from '../lib/goal.js';

/** Longest call that is always allowed while a member hangs (ms). */
const FLOOR = 60;

const nameOf = ({ outage, driver, hedge }) => `${outage}, ${driver}, hedging ${hedge ? 'on' : 'off'}`;

function goalsOf(result) {
  const { outage, driver, healthy, met, failed, attemptTimeout, slowShare, rate, alone } = result;
  const name = nameOf(result);
  const none = atMost(`${name}: failed calls`, 0, failed);
  switch (outage) {
    case 'DEVICE_ERROR':
    case 'host killed':
    case 'server killed':
      return driver === 'promises' ? [none, atMost(`${name}: p99 × healthy p99`, 3, met.p99 / healthy.p99)] : [none];
    case 'hang':
    case 'host stopped': {
      if (attemptTimeout !== undefined)
        return [
          none,
          atMost(
            `${name}, time-out ${attemptTimeout} ms: longest call, ms`,
            attemptTimeout + 10 + healthy.p99,
            met.max,
          ),
        ];
      return [none, atMost(`${name}: longest call, ms`, Math.max(10 * healthy.p99, FLOOR), met.max)];
    }
    case 'slow': {
      if (driver !== 'promises') return [none];
      return [
        none,
        atMost(`${name}: its share after 100 calls (half before)`, 0.25, slowShare),
        atLeast(`${name}: calls/s × those of the healthy member alone`, 0.9, rate / alone),
      ];
    }
    default:
      return [none];
  }
}

/** Judges the goals of all outages measured. */
export const judgeFailover = (results) => results.flatMap(goalsOf);
