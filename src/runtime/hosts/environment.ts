/** Prefix of variables that hold typed secrets for this process; programs that it starts do not get them. */
export const OWN_PREFIX = 'PKCS11_HA_OWN_';

/** Makes the environment for a program to be started: without variables of OWN_PREFIX and without the hidden ones. */
export function environmentFor(more: Readonly<Record<string, string>>, hidden: readonly string[]): NodeJS.ProcessEnv {
  const entries = Object.entries({ ...process.env, ...more });
  return Object.fromEntries(entries.filter(([name]) => !name.startsWith(OWN_PREFIX) && !hidden.includes(name)));
}
