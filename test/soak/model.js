// Model of what the group must have, as far as the applications were told.

/** Object as the applications know it. */
export class Entry {
  /** `there`, `gone`, or `maybe` after a change whose outcome is unknown. */
  state = 'there';
  /** True while a change of it runs. */
  isChanging = false;
  /** Ids of its changes with unknown outcomes, with the state that each leads to. */
  unknown = [];

  constructor(handle, kind, label, use) {
    this.handle = handle;
    this.kind = kind;
    this.labels = [label];
    this.use = use;
    this.since = performance.now();
  }
}

export class Model {
  /** Entries by handle. */
  entries = new Map();
  /** Labels of failed creations: `gone`, or `maybe` if the outcome is unknown; with the operation if it is known. */
  failed = new Map();
  /** Handles that were given once; none may be given again. */
  #handles = new Set();

  add(handle, kind, label, use) {
    if (this.#handles.has(handle)) throw new Error(`wrong: ${label} got the handle ${handle} of another object`);
    this.#handles.add(handle);
    const entry = new Entry(handle, kind, label, use);
    this.entries.set(handle, entry);
    return entry;
  }

  pick(isFit) {
    const fit = [...this.entries.values()].filter(
      (entry) => !entry.isChanging && entry.state === 'there' && isFit(entry),
    );
    return fit[Math.floor(Math.random() * fit.length)];
  }

  /** Compares with the labels that a token has; returns the faults as texts that begin with their kinds. */
  faultsOf(labels) {
    const left = new Map();
    for (const label of labels) left.set(label, (left.get(label) ?? 0) + 1);
    const take = (label) => {
      const count = left.get(label) ?? 0;
      if (count > 0) left.set(label, count - 1);
      return count > 0;
    };
    const faults = [];
    for (const entry of this.entries.values()) {
      const has = entry.labels.some(take);
      if (entry.state === 'there' && !has) faults.push(`lost: ${entry.kind} ${entry.labels} (${entry.handle})`);
      if (entry.state === 'gone' && has) faults.push(`resurrected: ${entry.kind} ${entry.labels} (${entry.handle})`);
      entry.wasThere = has;
    }
    for (const [label, failure] of this.failed) {
      failure.wasThere = take(label);
      if (failure.wasThere && failure.state === 'gone') faults.push(`told wrongly: ${label} failed, and is there`);
    }
    for (const [label, count] of left)
      if (count > 0) faults.push(`doubled: ${label} is there ${count} times too often`);
    return faults;
  }
}
