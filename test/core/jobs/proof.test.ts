import { expect, test } from '@jest/globals';
import { comparedProvers } from '../../../src/core/jobs/proof.js';
import { describedTypes, describeValues } from '../../../src/core/objects/identity.js';
import { ulongBytes } from '../../../src/spec/attribute.js';
import type { CallName } from '../../../src/spec/calls.js';
import { CKA, CKO } from '../../../src/spec/codes.js';
import { ck } from '../../../src/spec/constants.js';
import type { JobReply } from '../../../src/spec/job.js';

const calls: readonly CallName[] = ['C_DigestInit', 'C_DigestUpdate', 'C_DigestKey', 'C_DigestFinal'];

/** Returns the reply to a digest in which one step failed; undefined if none did. */
function replyWith(failed: CallName | undefined): JobReply {
  const results = calls.map((call) => ({
    call,
    code: call === failed ? ck('CKR_DEVICE_ERROR') : 0,
    value: call === 'C_DigestFinal' ? Buffer.alloc(32, 7) : undefined,
    optional: true,
  }));
  return { id: 1, status: 'done', results };
}

test.each([undefined, ...calls])('[Rule 12] a digest is a proof only if every step succeeded (%s fails)', (failed) => {
  const values = new Map<number, Uint8Array>([
    [CKA.class, ulongBytes(CKO.secretKey)],
    [CKA.keyType, ulongBytes(ck('CKK_AES'))],
  ]);
  const description = describeValues(describedTypes.map((type) => values.get(type)));
  const prover = comparedProvers(description, Buffer.alloc(32)).find(({ kind }) => kind === 'digest');
  expect(prover?.read(replyWith(failed), 0).length).toBe(failed === undefined ? 16 : 0);
});
