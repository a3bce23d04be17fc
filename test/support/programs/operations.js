// Changes that tests interrupt, in this process or in another one.
const aes = { token: true, valueLen: 32, encrypt: true, extractable: false, sensitive: true };
const paramsEC = Buffer.from('06082a8648ce3d030107', 'hex');

/** Makes the object that the change needs. */
export async function prepare(token, operation, label) {
  if (operation === 'setData')
    return await token.createObject({ class: 'DATA', token: true, private: true, label, value: Buffer.from(label) });
  if (operation !== 'set' && operation !== 'destroy') return undefined;
  return await token.generateKey('AES_KEY_GEN', { ...aes, label });
}

/** Makes the change. */
export async function run(token, operation, label, prepared) {
  switch (operation) {
    case 'generate':
      return await token.generateKey('AES_KEY_GEN', { ...aes, label });
    case 'generatePair':
      return await token.generateKeyPair(
        'EC_KEY_PAIR_GEN',
        { token: true, label, paramsEC, verify: true },
        { token: true, label, sign: true, extractable: true },
      );
    case 'create':
      return await token.createObject({ class: 'DATA', token: true, private: true, label, value: Buffer.from(label) });
    case 'set':
    case 'setData':
      return await token.setAttributes(prepared, { label: `${label} renamed` });
    case 'destroy':
      return await token.destroyObject(prepared);
    default:
      throw new Error(`unknown operation ${operation}`);
  }
}
