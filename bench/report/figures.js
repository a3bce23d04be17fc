// Figures that page and charts both take from the results.

/** Number of calls in flight at which the group is compared with its peers. */
export const IN_FLIGHT = 64;

const rateOf = (rows, name) => rows.find((row) => row.name === name)?.rate;

/**
 * Returns, for each operation, the rates of the group, pkcs11js synchronous, pkcs11js asynchronous at its best,
 * graphene-pk11, and C with 1 and 2 threads.
 */
export function contestantsIn(rows) {
  return [...new Set(rows.map(({ operation }) => operation))].map((operation) => {
    const own = rows.filter((row) => row.operation === operation);
    const best = own.filter(({ name }) => name.startsWith('pkcs11js async')).map(({ rate }) => rate);
    return {
      operation,
      ours: rateOf(own, `ours, ${IN_FLIGHT} in flight`),
      sync: rateOf(own, 'pkcs11js sync'),
      pkcs11js: Math.max(...best),
      graphene: own.find(({ name }) => name.startsWith('graphene'))?.rate,
      single: rateOf(own, 'C, 1 thread'),
      straight: rateOf(own, 'C, 2 threads'),
    };
  });
}

/** Returns the rows of the scaling scenario with their number of members. */
export function scalingIn(rows) {
  return rows.map(({ name, ...row }) => ({ members: Number.parseInt(name, 10), ...row }));
}

/** Returns [ms since the outage began, latency in ms] of each call around the outage, with promises and hedging. */
export function timelineOf(outages, outage) {
  const found = outages.find(
    (each) => each.outage === outage && each.driver === 'promises' && each.hedge && each.attemptTimeout === undefined,
  );
  if (found === undefined) throw new Error(`the results of bench:failover lack the outage ${outage}`);
  return found.timeline;
}
