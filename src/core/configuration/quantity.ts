import { z } from 'zod';

/** Length of a duration's units (ms). */
const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000 };
/** Size of a size's units (bytes). */
const sizeUnits: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2 };

/** Returns the schema of a number above 0, given as a number or as text with a unit. */
function quantity(units: Readonly<Record<string, number>>, expected: string): z.ZodType<number> {
  return z.union([z.number(), z.string()]).transform((value, context) => {
    const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/u.exec(value) : null;
    const factor = match === null ? undefined : units[match[2] ?? ''];
    const result = typeof value === 'number' ? value : factor === undefined ? Number.NaN : Number(match?.[1]) * factor;
    if (Number.isFinite(result) && result > 0) return result;
    context.addIssue({ code: 'custom', message: `expected ${expected}` });
    return z.NEVER;
  }) as unknown as z.ZodType<number>;
}

/** Schema of a duration (ms). */
export const duration: z.ZodType<number> = quantity(
  durationUnits,
  "a duration such as '500ms', '10s' or a number of ms above 0",
);
/** Schema of a size (bytes). */
export const size: z.ZodType<number> = quantity(
  sizeUnits,
  "a size such as '512KiB', '1MiB' or a number of bytes above 0",
);
