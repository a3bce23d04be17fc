import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { parseConfiguration } from '../../../core/configuration/validation.js';
import { Failure } from '../failure.js';
import { hasMember, NotEditable, withMember, withoutMember, withSetting } from './configuration-edit.js';
import { type PreparedFile, prepareFile } from './prepared-file.js';

/** Configuration file of a group, for editing in place: unaffected parts keep every byte. */
export class ConfigurationDocument {
  readonly #path: string;
  /** Content as it was read. */
  readonly #before: Buffer;
  #text: string;

  /** Reads the file; throws as VirtualToken.open does if the file is not valid. */
  constructor(path: string) {
    this.#path = path;
    this.#before = readFileSync(path);
    // Refuses other encodings, which would not be written back as they were.
    if (!isUtf8(this.#before))
      throw new Failure(`${path} is not UTF-8`, 'convert the file first, for example with `iconv -f latin1 -t utf8`');
    this.#text = this.#before.toString();
    parseConfiguration(this.#text, path);
  }

  /** Adds a member after the others. */
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

  /** Writes the changed text to a file beside the configuration. Throws, and changes nothing, if that fails. */
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
          `this command cannot change ${this.#path}: ${error instanceof NotEditable ? error.message : `the result would be invalid: ${error.message}`}`,
          'the file was left unchanged; edit it by hand',
        );
      throw error;
    }
  }

  /** Puts the file in place, unless another process has changed the configuration meanwhile. */
  #put(file: PreparedFile): void {
    if (!readFileSync(this.#path).equals(this.#before))
      throw new Failure(
        `another process has changed ${this.#path} meanwhile, so this command has not changed it`,
        'run the command again; steps already done are not repeated',
      );
    file.put();
  }
}
