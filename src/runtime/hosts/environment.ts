/** Prefix of variables that hold typed secrets for this process; programs that it starts do not get them. */
export const OWN_PREFIX = 'PKCS11_HA_OWN_';

/** Variables that programs on Linux expect. */
const basic =
  /^(?:PATH|HOME|USER|LOGNAME|SHELL|HOSTNAME|PWD|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TERM|LD_LIBRARY_PATH|XDG_RUNTIME_DIR|XDG_CONFIG_HOME|SSL_CERT_(?:FILE|DIR)|OPENSSL_(?:CONF|MODULES)|(?:HTTPS?|ALL|NO)_PROXY|(?:A|T|L|UB)SAN_OPTIONS)$/iu;

/** Variables of vendors' PKCS#11 libraries, and of tools that wrap libraries. */
const vendors =
  /^(?:SOFTHSM\w*|Chrystoki\w*|LUNA\w*|SAFENET\w*|ET_(?:PTKC|HSM)\w*|CS_\w+|CRYPTOSERVER\w*|C?K?NFAST\w*|NCIPHER\w*|PRIMUS\w*|YUBIHSM\w*|YKCS11\w*|CLOUDHSM\w*|KMS_PKCS11\w*|GOOGLE_APPLICATION_CREDENTIALS|TPM2\w*|TSS2\w*|OCK_\w*|OPENCRYPTOKI\w*|PKCSLIB|NSS\w*|FORTANIX\w*|FX\w*|P11_?KIT\w*|PKCS11SPY\w*|PKCS11_(?!HA_)\w*|OPENSC\w*)$/iu;

/** Pattern of names that a PKCS#11 library may read: those that are withheld are named when a library fails. */
const telling = /hsm|pkcs|p11|crypto|token|smartcard/iu;

/** Makes the environment of a program that gives a secret: without variables of OWN_PREFIX. */
export function environmentOfProgram(): NodeJS.ProcessEnv {
  const names = Object.keys(process.env).filter((name) => !name.startsWith(OWN_PREFIX));
  return Object.fromEntries(names.map((name) => [name, process.env[name]]));
}

/** Environment of a host, and what the host does not get of this process's environment. */
export interface HostEnvironment {
  readonly variables: NodeJS.ProcessEnv;
  /** Names of variables that a library might have wanted. */
  readonly withheld: readonly string[];
}

/**
 * Makes the environment of a host: the member's own variables, and of this process those that programs and known
 * libraries expect. A library has no use for the others, which may hold secrets. `hidden` variables hold PINs.
 */
export function environmentFor(own: Readonly<Record<string, string>>, hidden: readonly string[]): HostEnvironment {
  const isKept = (name: string): boolean => basic.test(name) || vendors.test(name);
  const variables: Record<string, string | undefined> = {};
  const withheld: string[] = [];
  for (const name of new Set([...Object.keys(process.env), ...Object.keys(own)])) {
    if (name.startsWith(OWN_PREFIX) || hidden.includes(name)) continue;
    // Reads no other value: a text of it would stay in this process's memory.
    if (Object.hasOwn(own, name) || isKept(name)) variables[name] = own[name] ?? process.env[name];
    else if (telling.test(name) && !name.startsWith('PKCS11_HA_')) withheld.push(name);
  }
  return { variables, withheld };
}
