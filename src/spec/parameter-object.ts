import { findConstant } from './constants.js';
import { bytesOf, checkNames, InputError, integerOf } from './input.js';

/** Maximum of numbers in parameters. */
const MOST = 0xffff_ffff;

function sizesOf(least: number, most: number): string {
  if (least === most) return `${least} bytes`;
  return most === MOST ? `at least ${least} ${least === 1 ? 'byte' : 'bytes'}` : `${least} to ${most} bytes`;
}

/**
 * Object with the fields of a mechanism's parameter. A field may have several names. Reading a field makes its names
 * known; `checkAll` refuses the others.
 */
export class ParameterObject {
  readonly #known: string[] = [];

  constructor(
    /** Name of the parameter in errors. */
    readonly field: string,
    readonly values: Readonly<Record<string, unknown>>,
  ) {}

  /** Returns the bytes of a field, `least` to `most` of them; empty if it is left out and `least` is 0. */
  bytes(names: readonly string[], least: number = 0, most: number = MOST): Uint8Array {
    const [name, value] = this.#given(names);
    if (value === undefined && least === 0) return new Uint8Array();
    const bytes = value === undefined ? undefined : bytesOf(`${this.field}.${name}`, value);
    if (bytes !== undefined && bytes.length >= least && bytes.length <= most) return bytes;
    throw new InputError(`${this.field}.${name}`, `a Buffer of ${sizesOf(least, most)}`, bytes);
  }

  /** Returns the number of a field from `low` to `high`; `otherwise`, if there is such a value, if it is left out. */
  integer(names: readonly string[], otherwise?: number, low: number = 0, high: number = MOST): number {
    const [name, value] = this.#given(names);
    if (value === undefined && otherwise !== undefined) return otherwise;
    return integerOf(`${this.field}.${name}`, value, low, high);
  }

  /** Returns the number of a field that may be the name of a constant after `prefix`. */
  constant(names: readonly string[], prefix: string, otherwise?: number): number {
    const [name, value] = this.#given(names);
    if (value === undefined && otherwise !== undefined) return otherwise;
    const known = typeof value === 'string' ? findConstant(prefix + value.replaceAll('-', '')) : undefined;
    if (known !== undefined) return known;
    if (typeof value === 'number') return integerOf(`${this.field}.${name}`, value, 0, MOST);
    throw new InputError(`${this.field}.${name}`, `a number or a name after ${prefix}`, value);
  }

  /** Returns true or false, false if the field is left out. */
  flag(names: readonly string[]): boolean {
    const [name, value = false] = this.#given(names);
    if (typeof value !== 'boolean') throw new InputError(`${this.field}.${name}`, 'true or false', value);
    return value;
  }

  /** Returns true if the field is given. */
  has(name: string): boolean {
    return this.#given([name])[1] !== undefined;
  }

  /** Throws InputError for a field that was not read: a misspelled one would be left out silently. */
  checkAll(): void {
    checkNames(this.field, this.values, this.#known);
  }

  /** Returns the name that is given of a field's names, or else the first one, with its value. */
  #given(names: readonly string[]): readonly [string, unknown] {
    this.#known.push(...names);
    const [first = ''] = names;
    const given = names.filter((name) => this.values[name] !== undefined && this.values[name] !== null);
    const [name = first, second] = given;
    if (second !== undefined)
      throw new InputError(`${this.field}.${second}`, `only one of ${given.join(', ')}`, this.values[second]);
    return [name, this.values[name] ?? undefined];
  }
}
