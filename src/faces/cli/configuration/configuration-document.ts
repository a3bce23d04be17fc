import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { parseConfiguration } from '../../../core/configuration/validation.js';
import { Failure } from '../failure.js';
import { hasMember, NotEditable, withMember, withoutMember, withSetting } from './configuration-edit.js';
import { type PreparedFile, prepareFile } from './prepared-file.js';

/** A group's configuration file, to be changed as an operator would: what is not concerned stays to the byte. */
export class ConfigurationDocument {
  readonly #path: string;
  /** As it was read. */
  readonly #before: Buffer;
  #text: string;

  /** Throws as VirtualToken.open does where the file is not right. */
  constructor(path: string) {
    this.#path = path;
    this.#before = readFileSync(path);
    // What is not understood would not be written as it was.
    if (!isUtf8(this.#before)) throw new Failure(`${path} is not UTF-8`, 'convert it first: `iconv -f latin1 -t utf8`');
    this.#text = this.#before.toString();
    parseConfiguration(this.#text, path);
  }

  /** Adds a member behind the others. */
  addMember(member: Readonly<Record<string, unknown>>): void {
    this.#edit((text) => withMember(text, member));
  }

  removeMember(name: string): void {
    this.#edit((text) => withoutMember(text, name));
  }

  hasMember(name: string): boolean {
    return hasMember(this.#text, name);
  }

  /** Sets one of a member's settings. */
  setOfMember(name: string, setting: string, value: boolean | number | string): void {
    this.#edit((text) => withSetting(text, name, setting, value));
  }

  /** The changed file, beside its place. Throws, with nothing changed, where it cannot be written or would not be right. */
  prepare(): PreparedFile {
    const file = prepareFile(this.#path, this.#text, 0o644);
    return { ...file, put: () => this.#put(file) };
  }

  #edit(change: (text: string) => string): void {
    try {
      const text = change(this.#text);
      parseConfiguration(text, this.#path);
      this.#text = text;
    } catch (error) {
      if (error instanceof Error && !(error instanceof Failure))
        throw new Failure(
          `${this.#path} cannot be changed by this command: ${error instanceof NotEditable ? error.message : `afterwards ${error.message}`}`,
          'it was left as it is: change it with an editor',
        );
      throw error;
    }
  }

  /** What somebody else has changed meanwhile is not overwritten. */
  #put(file: PreparedFile): void {
    if (!readFileSync(this.#path).equals(this.#before))
      throw new Failure(
        `${this.#path} was changed by somebody else meanwhile, and left as it is`,
        'give the command again: what is done already is not done twice',
      );
    file.put();
  }
}
