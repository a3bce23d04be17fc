import { z } from 'zod';
import type { SandboxConfig } from '../base/port.js';

const PATH = 'expected an absolute path';
const PORT = 'expected a TCP port from 1 to 65535';

const paths = z.array(z.string().regex(/^\/[^\0]{0,4095}$/u, PATH)).default([]);

/** Schema of a host's confinement, of which an empty one is the strictest. */
export const sandboxSchema: z.ZodType<SandboxConfig> = z.strictObject({
  read: paths,
  write: paths,
  connect: z.array(z.int(PORT).min(1, PORT).max(65_535, PORT)).optional(),
});
