/** Key as the plain model knows it. */
export interface ModelKey {
  readonly number: number;
  readonly handle: number;
  readonly mechanism: string;
  /** Result of the mechanism on the fixed input. */
  readonly result: Buffer;
}

/** Change of a key, as members have it. */
interface Happening {
  readonly time: number;
  readonly key: ModelKey;
  readonly what: 'make' | 'set' | 'destroy';
  readonly label?: string;
  readonly id?: string;
}

/** Key with its present names. */
export interface View {
  readonly key: ModelKey;
  readonly label: string;
  readonly id: string;
}

/** Returns the keys after a set of changes: a destroy wins over sets, a later set over an earlier one. */
function viewOf(happenings: ReadonlySet<Happening>): readonly View[] {
  const inOrder = [...happenings].sort((a, b) => a.time - b.time);
  const views = new Map<ModelKey, View>();
  for (const { key, what, label = '', id = '' } of inOrder) {
    const known = views.get(key);
    if (what === 'make') views.set(key, { key, label, id });
    if (what === 'set' && known !== undefined)
      views.set(key, { key, label: label === '' ? known.label : label, id: id === '' ? known.id : id });
    if (what === 'destroy') views.delete(key);
  }
  return [...views.values()];
}

/** Model of a group in memory: its members, and the changes that each of them has. */
export class PlainModel {
  readonly #names: readonly string[];
  /** Names of the group's members. */
  readonly members: Set<string>;
  /** Names of tokens that can be reached. */
  readonly reachable: Set<string>;
  /** Names of members that an operator has drained. */
  readonly drained: Set<string> = new Set();
  readonly #logs: Map<string, Set<Happening>>;
  /** All changes; the members that serve are stale if none of them has one of these. */
  readonly #all: Set<Happening> = new Set();
  #time = 0;

  constructor(names: readonly string[], members: readonly string[]) {
    this.#names = names;
    this.members = new Set(members);
    this.reachable = new Set(names);
    this.#logs = new Map(names.map((name) => [name, new Set<Happening>()]));
  }

  /** Names of the members that serve. */
  get alive(): ReadonlySet<string> {
    const serves = (name: string): boolean => this.members.has(name) && !this.drained.has(name);
    return new Set([...this.reachable].filter(serves));
  }

  /** True if the members that serve lack a change. */
  get isStale(): boolean {
    return this.#known.size < this.#all.size;
  }

  /** Keys that the serving members have together. */
  get views(): readonly View[] {
    return viewOf(this.#known);
  }

  /** Keys that all members have once all have met. */
  get end(): readonly View[] {
    return viewOf(this.#all);
  }

  /** Adds a change to every serving member. */
  note(happening: Omit<Happening, 'time'>): void {
    this.#time += 1;
    const noted: Happening = { ...happening, time: this.#time };
    this.#all.add(noted);
    for (const name of this.alive) this.#logs.get(name)?.add(noted);
  }

  /** Gives every serving member the changes of all of them. */
  meet(): void {
    const known = this.#known;
    for (const name of this.alive) this.#logs.set(name, new Set(known));
  }

  /** Removes a member and wipes its token. */
  remove(name: string): void {
    this.members.delete(name);
    this.#logs.set(name, new Set());
  }

  add(name: string): void {
    this.members.add(name);
    this.drained.delete(name);
  }

  nameAt(index: number): string {
    return this.#names[index % this.#names.length] as string;
  }

  get names(): readonly string[] {
    return this.#names;
  }

  get #known(): Set<Happening> {
    return new Set([...this.alive].flatMap((name) => [...(this.#logs.get(name) ?? [])]));
  }
}
