/** Variables that begin like this hold what was typed, for this process alone: no program that it starts gets them. */
export const OWN_PREFIX = 'PKCS11_HA_OWN_';

/** The environment for a program that is started: without those, and without others that are named. */
export function environmentFor(more: Readonly<Record<string, string>>, hidden: readonly string[]): NodeJS.ProcessEnv {
  const entries = Object.entries({ ...process.env, ...more });
  return Object.fromEntries(entries.filter(([name]) => !name.startsWith(OWN_PREFIX) && !hidden.includes(name)));
}
