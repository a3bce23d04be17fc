import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { fixture, MEMBERS, VERSIONS } from './bed.js';

/** Input of one block for all keys. */
const BLOCK = Buffer.alloc(16);
/** Input of ECDSA (bytes of a digest). */
const DIGEST = Buffer.alloc(32, 7);

export const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true };
const paramsEC = Buffer.from('06082a8648ce3d030107', 'hex');

/** Encrypts a block with a key; returns the result in hexadecimal. */
export async function encrypt(application, handle, options = {}) {
  return (await application.ask('encrypt', 'AES_ECB', handle, BLOCK, options)).toString('hex');
}

/** Makes an EC key pair; returns both objects. */
export async function makePair(application, label) {
  const common = { token: true, label };
  const privateTemplate = { ...common, sign: true, extractable: true };
  const publicTemplate = { ...common, paramsEC, verify: true };
  const { publicKey, privateKey } = await application.ask(
    'generateKeyPair',
    'EC_KEY_PAIR_GEN',
    publicTemplate,
    privateTemplate,
  );
  return [publicKey, privateKey];
}

/** Makes a data object that holds its label. */
export function makeData(application, label, options = {}) {
  const template = { class: 'DATA', token: true, private: true, label, value: Buffer.from(label) };
  return application.ask('createObject', template, options);
}

async function attribute(application, handle, name) {
  return (await application.ask('getAttributes', handle, [name]))[name].toString('hex');
}

/** Returns the result of an object's use, which is equal for equal objects; verifies signatures with `publicKey`. */
async function useOf(application, { handle, class: objectClass, type, label }, publicKey) {
  if (objectClass === 'SECRET_KEY') return await encrypt(application, handle);
  if (objectClass === 'DATA') return await attribute(application, handle, 'value');
  const isRsa = type === 'RSA';
  if (objectClass === 'PUBLIC_KEY') return await attribute(application, handle, isRsa ? 'modulus' : 'pointEC');
  const [mechanism, input] = isRsa ? ['SHA256_RSA_PKCS', BLOCK] : ['ECDSA', DIGEST];
  const signature = await application.ask('sign', mechanism, handle, input);
  // A pair may have lost its public key if a destroy of both was interrupted.
  const isRight = publicKey === undefined || (await application.ask('verify', mechanism, publicKey, input, signature));
  assert.ok(isRight, `${application.version}: the signature of ${label} is not of its public key`);
  return 'signs';
}

/** Describes all objects as an application finds and uses them: a map of their handles. */
export async function imageOf(application) {
  const found = await application.ask('find');
  const image = new Map();
  for (const object of found.sort((a, b) => a.handle - b.handle)) {
    const { handle, class: objectClass, label } = object;
    const partner = found.find((other) => other.class === 'PUBLIC_KEY' && other.label === label)?.handle;
    image.set(handle, { class: objectClass, label, use: await useOf(application, object, partner) });
  }
  assert.equal(image.size, found.length, `${application.version}: two objects have one handle`);
  return image;
}

/** Expects that two processes find and use the same objects. */
function expectEqualImages(one, other, where) {
  const lacks = (image, whole) =>
    [...whole]
      .filter(([handle, object]) => !isDeepStrictEqual(image.get(handle), object))
      .map(([handle, { class: objectClass, label }]) => `${objectClass} ${label} (${handle})`);
  const [missing, further] = [lacks(other, one), lacks(one, other)];
  assert.ok(
    missing.length + further.length === 0,
    `${where} do not find the same: only the first has ${missing.join(', ') || 'nothing'}, only the second has ${further.join(', ') || 'nothing'}`,
  );
}

/** Expects that both tokens hold equal objects; returns them. */
export async function expectEqualTokens(bed) {
  const [one, two] = await Promise.all(MEMBERS.map((name) => bed.read(name)));
  assert.deepEqual(one, two, 'the tokens of the members differ');
  return one;
}

/** Expects that an application finds the fixture's keys under their handles. */
export function expectFixture(image) {
  for (const { handle, label, result } of fixture.keys)
    assert.deepEqual(image.get(handle), { class: 'SECRET_KEY', label, use: result }, `key ${label} of the fixture`);
  for (const { handle, label } of fixture.objects) assert.equal(image.get(handle)?.label, label);
}

/**
 * Expects that applications, and new ones of given versions, find and use the same objects, and that the tokens are
 * equal and hold these objects only. Returns the image.
 */
export async function expectWhole(bed, applications, versions = VERSIONS) {
  const whole = await Promise.all(versions.map((version) => bed.openWhole(version)));
  await bed.untilTidy([...applications, ...whole]);
  const objects = await expectEqualTokens(bed);
  // Opens each member alone, so that every replica is used.
  const alone = await Promise.all(MEMBERS.map((name, at) => bed.open(versions[at % versions.length], [name])));
  const fresh = [...whole, ...alone];
  const images = await Promise.all([...applications, ...fresh].map(imageOf));
  const names = [
    ...applications.map(({ version }) => `the ${version} process`),
    ...whole.map(({ version }) => `a fresh ${version} process`),
    ...alone.map(({ version }, at) => `a fresh ${version} process on ${MEMBERS[at]}`),
  ];
  for (const [at, image] of images.entries()) expectEqualImages(images[0], image, `${names[0]} and ${names[at]}`);
  assert.equal(objects.length, images[0].size, 'the tokens hold another number of objects than is found');
  await Promise.all(fresh.map((application) => application.end()));
  return images[0];
}
