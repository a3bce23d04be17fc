/** A key as the plain model knows it. */
export interface ModelKey {
  readonly number: number;
  readonly handle: number;
  readonly mechanism: string;
  /** What the key makes of `data`. */
  readonly result: Buffer;
}

/** Something that happened to a key, as it stands on members. */
interface Happening {
  readonly time: number;
  readonly key: ModelKey;
  readonly what: 'make' | 'set' | 'destroy';
  readonly label?: string;
  readonly id?: string;
}

export interface View {
  readonly key: ModelKey;
  readonly label: string;
  readonly id: string;
}

/** What members that know of certain happenings hold: destroy wins, of sets the latest. */
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

/** The plain model: which members there are, and which of them know what. */
export class PlainModel {
  readonly #names: readonly string[];
  /** Those of the group, those that can be reached, and those that an operator has drained. */
  readonly members: Set<string>;
  readonly reachable: Set<string>;
  readonly drained: Set<string> = new Set();
  readonly #logs: Map<string, Set<Happening>>;
  /** All that has happened; what no member that is there knows makes them stale. */
  readonly #all: Set<Happening> = new Set();
  #time = 0;

  constructor(names: readonly string[], members: readonly string[]) {
    this.#names = names;
    this.members = new Set(members);
    this.reachable = new Set(names);
    this.#logs = new Map(names.map((name) => [name, new Set<Happening>()]));
  }

  /** The members that serve. */
  get alive(): ReadonlySet<string> {
    const serves = (name: string): boolean => this.members.has(name) && !this.drained.has(name);
    return new Set([...this.reachable].filter(serves));
  }

  get isStale(): boolean {
    return this.#known.size < this.#all.size;
  }

  /** What the members that are there hold together. */
  get views(): readonly View[] {
    return viewOf(this.#known);
  }

  /** What all members hold once they have met. */
  get end(): readonly View[] {
    return viewOf(this.#all);
  }

  note(happening: Omit<Happening, 'time'>): void {
    this.#time += 1;
    const noted: Happening = { ...happening, time: this.#time };
    this.#all.add(noted);
    for (const name of this.alive) this.#logs.get(name)?.add(noted);
  }

  /** Those that are there tell each other what they know. */
  meet(): void {
    const known = this.#known;
    for (const name of this.alive) this.#logs.set(name, new Set(known));
  }

  /** A member leaves, with nothing left on it. */
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
