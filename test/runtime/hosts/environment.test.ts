import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { environmentFor } from '../../../src/runtime/hosts/environment.js';

const given = {
  SOFTHSM2_CONF: '/softhsm2.conf',
  ChrystokiConfigurationPath: '/etc',
  DATABASE_PASSWORD: 'secret',
  VENDOR_HSM_CONF: '/vendor',
  HSM_PIN: '123456',
  PKCS11_HA_OWN_PIN_0: '123456',
};

beforeEach(() => void Object.assign(process.env, given));
afterEach(() => {
  for (const name of Object.keys(given)) delete process.env[name];
});

test('a host gets what programs and known libraries expect, and its member’s own variables', () => {
  const { variables, withheld } = environmentFor({ OWN: 'value', PATH: '/own' }, ['HSM_PIN']);
  expect(variables).toMatchObject({
    SOFTHSM2_CONF: '/softhsm2.conf',
    ChrystokiConfigurationPath: '/etc',
    OWN: 'value',
  });
  expect(variables.PATH).toBe('/own');
  for (const name of ['DATABASE_PASSWORD', 'VENDOR_HSM_CONF', 'HSM_PIN', 'PKCS11_HA_OWN_PIN_0'])
    expect(variables[name]).toBeUndefined();
  expect(withheld).toEqual(['VENDOR_HSM_CONF']);
});
