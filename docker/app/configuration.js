// Members as the group has them: each HSM's token through p11-kit's client, over the tunnel that the entry point has made.
const MODULE = '/usr/lib/p11-kit-client.so';

/** A network HSM takes longer to answer than one in the machine, and a busy machine longer still. */
const HANG_AFTER = 2000;

export const addressOf = (name) => `unix:path=/run/app/${name}.sock`;

/** The group's first configuration, as the text of its file: the HSMs in FIRST_MEMBERS. */
export function firstConfiguration(deadline) {
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
members:
${members.join('')}policy: { deadline: ${deadline}, hangAfter: ${HANG_AFTER} }
`;
}

export const module = MODULE;
