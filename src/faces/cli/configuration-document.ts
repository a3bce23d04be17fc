import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Document, isMap, isSeq, parseDocument, type YAMLMap, type YAMLSeq } from 'yaml';
import { parseConfiguration } from '../../core/validation.js';
import { Failure } from './failure.js';

/** Text that is on the disk already, and takes its place in one step. */
export interface PreparedFile {
  /** Where it is until then. */
  readonly aside: string;
  /** Puts it in place. */
  put(): void;
  /** Takes it away where it was not put. */
  drop(): void;
}

/**
 * Writes a file beside its place, so that a full disk is known before anything is done; it is there whole, or not. What
 * takes another file's place has its owner and its permissions; `mode` is that of a new one.
 */
export function prepareFile(given: string, content: string | Uint8Array, mode: number): PreparedFile {
  // A link stays a link.
  const path = existsSync(given) ? realpathSync(given) : given;
  const former = existsSync(path) ? statSync(path) : undefined;
  const aside = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString('hex')}.tmp`);
  let isThere = false;
  const drop = (): void => {
    if (isThere) rmSync(aside, { force: true });
    isThere = false;
  };
  try {
    const descriptor = openSync(aside, 'wx', 0o600);
    isThere = true;
    try {
      const bytes = typeof content === 'string' ? Buffer.from(content) : content;
      for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written);
      if (former !== undefined && (former.uid !== process.getuid?.() || former.gid !== process.getgid?.()))
        fchownSync(descriptor, former.uid, former.gid);
      fchmodSync(descriptor, former === undefined ? mode : former.mode & 0o7777);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    drop();
    throw error;
  }
  return {
    aside,
    put: () => {
      // What has come there meanwhile is not overwritten.
      if (former === undefined && existsSync(path))
        throw new Failure(`${path} has come into being meanwhile`, 'it was left as it is: choose another place');
      renameSync(aside, path);
      isThere = false;
    },
    drop,
  };
}

/** A group's configuration file, to be changed as an operator would: comments and order stay. */
export class ConfigurationDocument {
  readonly #document: Document;
  readonly #path: string;
  /** As it was read. */
  readonly #text: string;

  /** Throws as VirtualToken.open does where the file is not right. */
  constructor(path: string) {
    this.#path = path;
    this.#text = readFileSync(path, 'utf8');
    parseConfiguration(this.#text, path);
    this.#document = parseDocument(this.#text, { keepSourceTokens: true });
  }

  /** Adds a member behind the others. */
  addMember(member: Readonly<Record<string, unknown>>): void {
    this.#members.add(this.#document.createNode(member));
  }

  removeMember(name: string): void {
    const members = this.#members;
    const index = members.items.findIndex((item) => isMap(item) && item.get('name') === name);
    if (index >= 0) members.delete(index);
  }

  hasMember(name: string): boolean {
    return this.#find(name) !== undefined;
  }

  /** Sets one of a member's settings; undefined takes it away. */
  setOfMember(name: string, setting: string, value: unknown): void {
    const member = this.#find(name);
    if (member === undefined) throw new Failure(`there is no member ${name}`, '`pkcs11-ha status` lists them');
    if (value === undefined) member.delete(setting);
    else member.set(setting, value);
  }

  /** The changed file, beside its place. Throws, with nothing changed, where it cannot be written or would not be right. */
  prepare(): PreparedFile {
    const text = this.#document.toString({ lineWidth: 0, flowCollectionPadding: true });
    parseConfiguration(text, this.#path);
    const file = prepareFile(this.#path, text, 0o644);
    return { ...file, put: () => this.#put(file) };
  }

  /** What somebody else has changed meanwhile is not overwritten. */
  #put(file: PreparedFile): void {
    if (readFileSync(this.#path, 'utf8') !== this.#text)
      throw new Failure(
        `${this.#path} was changed by somebody else meanwhile, and left as it is`,
        'give the command again: what is done already is not done twice',
      );
    file.put();
  }

  get #members(): YAMLSeq {
    const members = this.#document.get('members');
    if (!isSeq(members)) throw new Failure(`${this.#path} has no list of members`, 'mend the configuration');
    return members;
  }

  #find(name: string): YAMLMap | undefined {
    return this.#members.items.find((item): item is YAMLMap => isMap(item) && item.get('name') === name);
  }
}
