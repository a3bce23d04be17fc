import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { TokenError } from '../../core/base/error.js';
import type { Member } from '../../core/group/member.js';
import type { VirtualSession } from '../../core/sessions/virtual-session.js';
import { sessionHandleInvalid, VirtualSlot } from '../../core/sessions/virtual-slot.js';
import { readConfiguration } from '../../runtime/groups/configuration-source.js';
import { OpenGroup } from '../../runtime/groups/open-group.js';
import { callerContexts } from '../../runtime/scheduling/caller-contexts.js';
import { sha256 } from '../../runtime/secrets/crypto.js';
import { CKR } from '../../spec/codes.js';

/** Largest slot id and session handle. */
const MOST_HANDLES = 0x7fff_ffff;

/** Slot with the group behind it. */
export interface OpenSlot {
  readonly slot: VirtualSlot;
  readonly open: OpenGroup;
}

/** Session with its slot and the group behind it. */
export interface OpenSession extends OpenSlot {
  readonly session: VirtualSession;
}

const loaded = new Map<string, Library>();

/**
 * Stand-in for a vendor's library: the groups of one or more configurations, with a slot for each. Loading the same
 * configurations again returns the same library, as a process has one instance of a vendor's library.
 */
export class Library {
  readonly #key: string;
  readonly #paths: readonly string[];
  #users = 0;
  #slots: readonly OpenSlot[] | undefined;
  #sessions = 0;
  #present = new Map<number, boolean>();

  private constructor(key: string, paths: readonly string[]) {
    this.#key = key;
    this.#paths = paths;
  }

  /** Returns the library of the configuration files, separated by commas. Throws if a file is not valid. */
  static load(path: unknown): Library {
    if (typeof path !== 'string') throw new TypeError('Argument 0 has wrong type. Should be a String');
    const paths = path.split(',').map((each) => resolve(each.trim()));
    for (const each of paths) readConfiguration(each);
    const key = paths.map((each) => realpathSync(each)).join(',');
    const library = loaded.get(key) ?? new Library(key, paths);
    loaded.set(key, library);
    library.#users += 1;
    return library;
  }

  /** Drops one use of the library; the last one finalizes it. */
  unload(): void {
    this.#users -= 1;
    if (this.#users > 0) return;
    loaded.delete(this.#key);
    if (this.#slots !== undefined) this.finalize();
  }

  /** Starts the members' hosts, and waits until a member of each group serves. */
  initialize(): void {
    if (this.#slots !== undefined) throw new TokenError(CKR.cryptokiAlreadyInitialized, 'C_Initialize', '');
    const slots: OpenSlot[] = [];
    callerContexts.use();
    try {
      for (const path of this.#paths) {
        const configuration = readConfiguration(path);
        const open = OpenGroup.openSync(configuration, { path });
        const { group } = open;
        const peers = new Set<VirtualSlot>();
        slots.push({ open, slot: this.#slotOf(open, `slot ${group.serial}`, slots, peers) });
        if (configuration.slots === 'virtual') continue;
        for (const member of group.members)
          slots.push({ open, slot: this.#slotOf(open, `slot ${group.serial} ${member.name}`, slots, peers, member) });
      }
      for (const open of opened(slots)) open.awaitServiceSync(open.now() + open.group.policy.deadline);
    } catch (error) {
      for (const open of opened(slots)) open.closeSync();
      callerContexts.release();
      throw error;
    }
    this.#slots = slots;
    this.#present = new Map(slots.map(({ slot }) => [slot.id, slot.isTokenPresent]));
  }

  finalize(): void {
    const slots = this.slots;
    this.#slots = undefined;
    for (const { slot } of slots) slot.closeAllSessions();
    for (const open of opened(slots)) open.closeSync();
    callerContexts.release();
  }

  get slots(): readonly OpenSlot[] {
    this.checkInitialized();
    return this.#slots ?? [];
  }

  checkInitialized(): void {
    if (this.#slots === undefined) throw new TokenError(CKR.cryptokiNotInitialized, '', 'C_Initialize was not called');
  }

  /** Lists slot ids for C_GetSlotList, section 5.5; with `present` only slots whose group can be used now. */
  slotIds(present: boolean): readonly number[] {
    return this.slots.flatMap(({ slot }) => (!present || slot.isTokenPresent ? [slot.id] : []));
  }

  /** Returns the id of a slot whose token has come or gone since the last call; undefined if there is none. */
  takeEvent(): number | undefined {
    for (const { slot } of this.slots) {
      const { id, isTokenPresent } = slot;
      if (this.#present.get(id) === isTokenPresent) continue;
      this.#present.set(id, isTokenPresent);
      return id;
    }
    return undefined;
  }

  slot(id: number): OpenSlot {
    const found = this.slots.find(({ slot }) => slot.id === id);
    if (found === undefined) throw new TokenError(CKR.slotIdInvalid, '', 'no slot has this id');
    return found;
  }

  session(handle: number): OpenSession {
    for (const { slot, open } of this.slots) {
      const session = slot.find(handle);
      if (session !== undefined) return { slot, open, session };
    }
    throw sessionHandleInvalid('');
  }

  /** Makes a slot. Its id is derived from its name: the same in every process and after every restart. */
  #slotOf(
    open: OpenGroup,
    name: string,
    others: readonly OpenSlot[],
    peers: Set<VirtualSlot>,
    only?: Member,
  ): VirtualSlot {
    let id = Buffer.from(sha256(Buffer.from(name))).readUInt32BE() & MOST_HANDLES;
    while (id === 0 || others.some(({ slot }) => slot.id === id)) id = (id + 1) & MOST_HANDLES;
    return new VirtualSlot(id, open.group, callerContexts, () => this.#nextHandle(), peers, only);
  }

  #nextHandle(): number {
    do {
      this.#sessions = this.#sessions >= MOST_HANDLES ? 1 : this.#sessions + 1;
    } while (this.#slots?.some(({ slot }) => slot.find(this.#sessions) !== undefined) === true);
    return this.#sessions;
  }
}

/** Returns the groups behind slots, each once. */
function opened(slots: readonly OpenSlot[]): ReadonlySet<OpenGroup> {
  return new Set(slots.map(({ open }) => open));
}
