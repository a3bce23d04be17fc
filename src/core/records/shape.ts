/** Check of a parsed value: returns the value in its form, without unknown fields; throws if it has another form. */
export type Check<T> = (value: unknown) => T;

/** Checks of all fields of an object, by name. */
type FieldChecks<T> = { readonly [K in keyof T]-?: Check<T[K]> };

/** Error of every value of another form; made once, since nobody reads it. */
const malformed = new Error('the value does not have the form of a record');

/** Pattern of a character that is no digit of a lower-case hexadecimal text. */
const otherThanHex = /[^0-9a-f]/u;
/** Length from which decoding a hexadecimal text is faster than the pattern (characters). */
const LONG_HEX = 256;

function isHex(digits: string): boolean {
  if (digits.length < LONG_HEX) return !otherThanHex.test(digits);
  return Buffer.from(digits, 'hex').toString('hex') === digits;
}

/** Checks a text of at most `most` characters. */
export function text(most: number): Check<string> {
  return (value) => {
    if (typeof value !== 'string' || value.length > most) throw malformed;
    return value;
  };
}

/** Checks whole bytes as lower-case hexadecimal text of at most `most` characters. */
export function hexText(most: number): Check<string> {
  return (value) => {
    if (typeof value !== 'string' || value.length > most || value.length % 2 !== 0 || !isHex(value)) throw malformed;
    return value;
  };
}

/** Checks a finite number from `least` to `most`. */
export function quantity(least: number, most: number): Check<number> {
  return (value) => {
    if (typeof value !== 'number' || !(value >= least && value <= most)) throw malformed;
    // Makes -0 into 0.
    return value + 0;
  };
}

/** Checks a whole number from `least` to `most`. */
export function integer(least: number, most: number): Check<number> {
  const inRange = quantity(least, most);
  return (value) => {
    if (!Number.isSafeInteger(value)) throw malformed;
    return inRange(value);
  };
}

/** Checks true or false. */
export const flag: Check<boolean> = (value) => {
  if (typeof value !== 'boolean') throw malformed;
  return value;
};

/** Checks one of the given texts or numbers. */
export function oneOf<const T extends string | number>(...values: readonly T[]): Check<T> {
  return (value) => {
    const found = values.find((each) => each === value);
    if (found === undefined) throw malformed;
    return found;
  };
}

/** Checks a value that may be null. */
export function nullable<T>(check: Check<T>): Check<T | null> {
  return (value) => (value === null ? null : check(value));
}

/** Checks a value that may be absent. */
export function optional<T>(check: Check<T>): Check<T | undefined> {
  return (value) => (value === undefined ? undefined : check(value));
}

/** Checks a list of at most `most` elements. */
export function list<T>(check: Check<T>, most: number): Check<readonly T[]> {
  return (value) => {
    if (!Array.isArray(value) || value.length > most) throw malformed;
    return value.map((each) => check(each));
  };
}

/** Checks a value with a check, and that a condition holds for it. */
export function refined<T>(check: Check<T>, holds: (value: T) => boolean): Check<T> {
  return (value) => {
    const checked = check(value);
    if (!holds(checked)) throw malformed;
    return checked;
  };
}

/** Checks a list of two elements. */
export function pair<A, B>(first: Check<A>, second: Check<B>): Check<readonly [A, B]> {
  return (value) => {
    if (!Array.isArray(value) || value.length !== 2) throw malformed;
    return [first(value[0]), second(value[1])];
  };
}

function objectIn(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed;
  return value as Readonly<Record<string, unknown>>;
}

/** Checks an object with any names. The result has no prototype, so that no name finds anything else. */
export function mapOf<T>(name: Check<string>, check: Check<T>, most: number): Check<Readonly<Record<string, T>>> {
  return (value) => {
    const entries = Object.entries(objectIn(value));
    if (entries.length > most) throw malformed;
    const checked = Object.create(null) as Record<string, T>;
    for (const [key, each] of entries) checked[name(key)] = check(each);
    return checked;
  };
}

/** Checks the fields of an object; leaves out all others. */
export function fields<T extends object>(checks: FieldChecks<T>): Check<T> {
  const all = Object.entries(checks) as [string, Check<unknown>][];
  return (value) => {
    const given = objectIn(value);
    const checked: Record<string, unknown> = {};
    for (const [name, check] of all) {
      const field = check(given[name]);
      if (field !== undefined) checked[name] = field;
    }
    return checked as T;
  };
}

/** Checks an object that has either of two forms: the second one unless a field of the first is there. */
export function either<A, B>(field: string, first: Check<A>, second: Check<B>): Check<A | B> {
  return (value) => (Object.hasOwn(objectIn(value), field) ? first(value) : second(value));
}
