// Configuration of the group: each member is an HSM's token through p11-kit's client, over the tunnel that the entry
// point has made.
const MODULE = '/usr/lib/p11-kit-client.so';

/** Time after which an HSM counts as hung (ms): long enough for a network HSM and a busy machine. */
const HANG_AFTER = 2000;

/** Returns the p11-kit address of an HSM's tunnel. */
export const addressOf = (name) => `unix:path=/run/app/${name}.sock`;

/** Returns the text of the group's first configuration file, with the HSMs in FIRST_MEMBERS. */
export function firstConfiguration(deadline, publicKey, keyFile) {
  const names = process.env.FIRST_MEMBERS.split(' ');
  const members = names.map(
    (name) => `  - name: ${name}
    module: ${MODULE}
    token: { label: ${name} }
    env: { P11_KIT_SERVER_ADDRESS: "${addressOf(name)}" }
`,
  );
  return `label: network
pin: { file: /run/secrets/hsm_pin }
administration: { publicKey: "${publicKey}", key: { file: "${keyFile}" } }
members:
${members.join('')}policy: { deadline: ${deadline}, hangAfter: ${HANG_AFTER} }
`;
}

/** Path of the members' library. */
export const module = MODULE;
