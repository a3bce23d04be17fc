import { createCipheriv } from 'node:crypto';
import { TokenError, UnknownOutcomeError } from '../../src/core/base/error.js';
import { ulongOf } from '../../src/spec/attribute.js';
import { CKA, CKO } from '../../src/spec/codes.js';
import type { Fleet } from './fleet.js';
import type { SimulatedToken, StoredObject } from './simulated-token.js';

/** Key, as the applications were told. `maybe`: a creation or a destroy of it had an unknown outcome. */
export interface KnownKey {
  readonly handle: number;
  /** Value, as it stood on a token when the key was made. */
  readonly value: Buffer;
  state: 'there' | 'gone' | 'maybe';
  /** Labels that it may have: two after a rename of unknown outcome. */
  labels: readonly string[];
  isBusy: boolean;
}

/** Outcome of a call, as its caller was told. */
export type Told = 'done' | 'failed' | 'unknown';

/** Returns what a caller was told; undefined stands for an application that has ended before. */
export function toldBy(ended: { ok: boolean; error?: unknown } | undefined): Told {
  if (ended?.ok === true) return 'done';
  if (ended === undefined || ended.error instanceof UnknownOutcomeError) return 'unknown';
  if (ended.error instanceof TokenError) return 'failed';
  throw ended.error;
}

const labelOf = ({ attributes }: StoredObject): string => (attributes.get(CKA.label) ?? Buffer.alloc(0)).toString();
const keyValueOf = ({ attributes }: StoredObject): Buffer => attributes.get(CKA.value) ?? Buffer.alloc(0);
const isOwn = (object: StoredObject): boolean => labelOf(object).startsWith('pkcs11-ha:');

/** Returns the applications' keys on a token. */
function keysOn({ objects }: SimulatedToken): StoredObject[] {
  return [...objects.values()].filter(
    (object) =>
      object.holder === undefined &&
      !isOwn(object) &&
      ulongOf(object.attributes.get(CKA.class) ?? Buffer.alloc(8)) === CKO.secretKey,
  );
}

/** Record of what the applications were told, and the checks of the tokens against it. */
export class History {
  readonly keys: KnownKey[] = [];
  /** Labels of creations that were told as failed. */
  readonly failedLabels: string[] = [];
  /** Labels of creations whose outcome is unknown. */
  readonly unknownLabels: string[] = [];
  readonly findings: string[] = [];
  /** Number of calls by what they did and what was told. */
  readonly counts: Map<string, number> = new Map();
  readonly #fleet: Fleet;

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  count(what: string, told: Told): void {
    const name = `${what} ${told}`;
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }

  /** Returns a key that a call may take, and that no other call has; undefined if there is none. */
  choose(): KnownKey | undefined {
    const free = this.keys.filter(({ state, isBusy }) => state === 'there' && !isBusy);
    return free.length === 0 ? undefined : this.#fleet.chance.pick(free);
  }

  noteMade(label: string, told: Told, handle: number | undefined): void {
    this.count('generate', told);
    if (told === 'failed') this.failedLabels.push(label);
    if (told === 'unknown') this.unknownLabels.push(label);
    if (told !== 'done' || handle === undefined) return;
    const value = this.#valueBy(label);
    if (value === undefined) {
      this.findings.push(`lost: ${label} was told as made, and is on no token`);
      return;
    }
    const other = this.keys.find((key) => key.handle === handle);
    if (other !== undefined) this.findings.push(`wrong: ${label} and ${other.labels} have the handle ${handle}`);
    this.keys.push({ handle, value, state: 'there', labels: [label], isBusy: false });
  }

  #valueBy(label: string): Buffer | undefined {
    for (const token of this.#fleet.tokens.values()) {
      const found = keysOn(token).find((object) => labelOf(object) === label);
      if (found !== undefined) return keyValueOf(found);
    }
    return undefined;
  }

  noteUse({ value, labels }: KnownKey, told: Told, data: Buffer, result: Uint8Array | undefined): void {
    this.count('use', told);
    if (told !== 'done') return;
    const cipher = createCipheriv(`aes-${value.length * 8}-ecb`, value, null).setAutoPadding(false);
    if (!cipher.update(data).equals(result ?? Buffer.alloc(0))) this.findings.push(`wrong: ${labels} used another key`);
  }

  noteDestroyed(key: KnownKey, told: Told): void {
    this.count('destroy', told);
    if (told !== 'failed') key.state = told === 'done' ? 'gone' : 'maybe';
  }

  noteRenamed(key: KnownKey, label: string, told: Told): void {
    this.count('rename', told);
    if (told === 'done') key.labels = [label];
    if (told === 'unknown') key.labels = [...key.labels, label];
  }

  /** Compares the tokens with each other and with what was told; all members are in step by now. */
  check(): void {
    const members = [...this.#fleet.tokens].map(([name, token]) => ({ name, keys: keysOn(token), token }));
    for (const key of this.keys) this.#checkKey(key, members);
    const known = new Set(this.keys.map(({ value }) => value.toString('hex')));
    for (const { name, keys, token } of members) {
      for (const object of keys) {
        if (known.has(keyValueOf(object).toString('hex'))) continue;
        const label = labelOf(object);
        if (this.failedLabels.includes(label)) this.findings.push(`told wrongly: ${label} failed, and is on ${name}`);
        else if (!this.unknownLabels.includes(label)) this.findings.push(`foreign: ${label} is on ${name}`);
      }
      for (const object of token.objects.values())
        if (object.holder === undefined && object.attributes.size === 0)
          this.findings.push(`left over: a hollow object is on ${name}`);
        else if (/^pkcs11-ha:(?:intent|journal)/u.test(labelOf(object)))
          this.findings.push(`left over: ${labelOf(object)} is on ${name}`);
    }
    this.#checkUnknown(members);
  }

  #checkKey(key: KnownKey, members: readonly { name: string; keys: readonly StoredObject[] }[]): void {
    const label = key.labels.join(' or ');
    const counts = members.map(({ keys }) => keys.filter((object) => keyValueOf(object).equals(key.value)).length);
    const where = (wanted: (count: number) => boolean): string =>
      members.flatMap(({ name }, index) => (wanted(counts[index] ?? 0) ? [name] : [])).join(', ');
    if (key.state === 'there' && counts.some((count) => count === 0))
      this.findings.push(`lost: ${label} is not on ${where((count) => count === 0)}`);
    if (key.state === 'gone' && counts.some((count) => count > 0))
      this.findings.push(`resurrected: ${label} is on ${where((count) => count > 0)}`);
    if (key.state === 'maybe' && new Set(counts.map((count) => count > 0)).size > 1)
      this.findings.push(`not aligned: ${label} is on ${where((count) => count > 0)} only`);
    if (counts.some((count) => count > 1)) this.findings.push(`doubled: ${label} on ${where((count) => count > 1)}`);
    const labels = members.flatMap(({ keys }) =>
      keys.filter((object) => keyValueOf(object).equals(key.value)).map(labelOf),
    );
    if (labels.some((each) => !key.labels.includes(each)) || new Set(labels).size > 1)
      this.findings.push(`told wrongly: ${label} has the labels ${labels.join(', ')}`);
  }

  /** Checks that an object of a creation with an unknown outcome is on all members or on none. */
  #checkUnknown(members: readonly { name: string; keys: readonly StoredObject[] }[]): void {
    for (const label of this.unknownLabels) {
      const having = members.filter(({ keys }) => keys.some((object) => labelOf(object) === label));
      if (having.length > 0 && having.length < members.length)
        this.findings.push(`not aligned: ${label} is on ${having.map(({ name }) => name).join(', ')} only`);
    }
  }
}
