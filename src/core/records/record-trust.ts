import type { Authority } from '../base/port.js';
import type { GroupRecord } from './record.js';
import { statementOf } from './statement.js';

/**
 * Trust in a group record. `signed`: by an administration key that this process knows. `refused`: the group has such a
 * key, and the record has no signature of it. `unsigned`: this process knows no key of the group.
 */
export type Trust = 'signed' | 'unsigned' | 'refused';

/** Maximum number of verified signatures that are remembered. */
const MOST_VERIFIED = 256;

/** Judge of group records (Rule 19). A signature is verified once. */
export class RecordTrust {
  readonly #authority: Authority;
  /** Statements with valid signatures. */
  readonly #verified = new Set<string>();

  constructor(authority: Authority) {
    this.#authority = authority;
  }

  of(record: GroupRecord): Trust {
    const keys = this.#authority.keysFor(record.id);
    if (keys === undefined) return 'unsigned';
    const { signature } = record;
    return signature !== undefined && keys.includes(signature.key) && this.#isValid(record, signature)
      ? 'signed'
      : 'refused';
  }

  #isValid(record: GroupRecord, { key, value }: NonNullable<GroupRecord['signature']>): boolean {
    const statement = statementOf(record);
    const name = `${key} ${value} ${Buffer.from(statement).toString('latin1')}`;
    if (this.#verified.has(name)) return true;
    if (!this.#authority.verify(key, statement, value)) return false;
    if (this.#verified.size >= MOST_VERIFIED) this.#verified.clear();
    this.#verified.add(name);
    return true;
  }
}
