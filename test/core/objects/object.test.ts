import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type Description, identityOf, isProvenByIdentity } from '../../../src/core/objects/identity.js';
import { ObjectTable } from '../../../src/core/objects/object-table.js';
import { CKK, CKO } from '../../../src/spec/codes.js';

describe('identities and handles', () => {
  const hash = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();
  const empty = new Uint8Array();
  const description = (extra: Partial<Description> = {}): Description => ({
    class: CKO.secretKey as number,
    type: CKK.aes as number,
    id: Uint8Array.of(1),
    label: Buffer.from('key'),
    modulus: empty,
    publicExponent: empty,
    ecParams: empty,
    ecPoint: empty,
    prime: empty,
    subprime: empty,
    base: empty,
    token: true,
    private: true,
    alwaysAuthenticate: false,
    signs: false,
    encrypts: false,
    derives: false,
    ...extra,
  });

  test('usage flags are no part of the identity', () => {
    expect(identityOf(description({ signs: true, encrypts: true }))).toEqual(identityOf(description()));
    expect(identityOf(description({ label: Buffer.from('other') }))).not.toEqual(identityOf(description()));
  });

  test('equal bytes split otherwise between attributes give another identity', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 8 }),
        fc.uint8Array({ maxLength: 8 }),
        fc.uint8Array({ maxLength: 8 }),
        fc.uint8Array({ maxLength: 8 }),
        (id, label, otherId, otherLabel) => {
          const same = Buffer.compare(id, otherId) === 0 && Buffer.compare(label, otherLabel) === 0;
          const [one, two] = [
            identityOf(description({ id, label })),
            identityOf(description({ id: otherId, label: otherLabel })),
          ];
          expect(Buffer.compare(one, two) === 0).toBe(same);
        },
      ),
    );
  });

  test('[Rule 12] an identity is a proof only if it has public material', () => {
    expect(isProvenByIdentity(description())).toBe(false);
    expect(isProvenByIdentity(description({ class: CKO.privateKey as number, type: CKK.ec as number }))).toBe(false);
    expect(
      isProvenByIdentity(
        description({ class: CKO.privateKey as number, type: CKK.rsa as number, modulus: Uint8Array.of(5) }),
      ),
    ).toBe(true);
    expect(isProvenByIdentity(description({ class: CKO.publicKey as number, type: CKK.ec as number }))).toBe(false);
  });

  test('[Rule 11] a handle has 48 bits, comes from the identity alone, and a collision hashes again', () => {
    const [one, two] = [new ObjectTable(hash), new ObjectTable(hash)];
    const identity = identityOf(description());
    const object = one.intern(identity, description());
    expect(object.handle).toBe(two.intern(identity, description()).handle);
    expect(one.intern(Buffer.from(identity), description())).toBe(object);
    expect(object.handle).toBeLessThan(2 ** 48);
    // Hash function whose first results are all equal.
    let calls = 0;
    const colliding = new ObjectTable((bytes) => (calls++ < 3 ? new Uint8Array(32).fill(7) : hash(bytes)));
    const handles = [1, 2, 3].map((byte) => colliding.intern(Uint8Array.of(byte), description()).handle);
    expect(new Set(handles).size).toBe(3);
  });
});
