// Statistics of many measurements.

/** Returns a quantile; `part` is between 0 (shortest) and 1 (longest). NaN if there are no values. */
export function quantile(values, part) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

export const median = (values) => quantile(values, 0.5);

/** Rounds to three digits; a noisy machine gives no more. */
export function rounded(value) {
  return Number.isFinite(value) ? Number(value.toPrecision(3)) : undefined;
}

/** Returns the spread of latencies (ms): their number, p50, p99 and maximum. */
export function spreadOf(latencies) {
  return {
    calls: latencies.length,
    p50: rounded(quantile(latencies, 0.5)),
    p99: rounded(quantile(latencies, 0.99)),
    max: rounded(quantile(latencies, 1)),
  };
}
