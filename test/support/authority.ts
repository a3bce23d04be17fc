import { type Authority, Signing } from '../../src/core/base/port.js';
import { RecordTrust } from '../../src/core/records/record-trust.js';

/** Authority of a process that knows no administration key. */
export const noAuthority: Authority = {
  keysFor: () => undefined,
  verify: () => false,
  canSign: () => false,
  prepare: () => undefined,
  discard: () => undefined,
  sign: () => new Signing(),
};

/** Trust of such a process. */
export const trust: RecordTrust = new RecordTrust(noAuthority);
