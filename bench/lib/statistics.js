// What is made of many measurements.

export function quantile(values, part) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

export const median = (values) => quantile(values, 0.5);

/** To three digits, which is more than a noisy machine gives. */
export function rounded(value) {
  return Number.isFinite(value) ? Number(value.toPrecision(3)) : undefined;
}

/** How latencies (ms) are spread. */
export function spreadOf(latencies) {
  return {
    calls: latencies.length,
    p50: rounded(quantile(latencies, 0.5)),
    p99: rounded(quantile(latencies, 0.99)),
    max: rounded(quantile(latencies, 1)),
  };
}
