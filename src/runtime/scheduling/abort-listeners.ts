/** Callbacks for the abort of one signal, with the listener that calls them. */
interface Listener {
  readonly callbacks: Set<() => void>;
  readonly listen: () => void;
}

/** Callbacks for the abort of signals: one listener for each signal, since Node.js warns of many. */
export class AbortListeners {
  readonly #listeners = new WeakMap<AbortSignal, Listener>();

  /** Calls back when the signal aborts; the returned function ends that. */
  add(signal: AbortSignal, callback: () => void): () => void {
    const { callbacks, listen } = this.#listenerOf(signal);
    callbacks.add(callback);
    return () => {
      callbacks.delete(callback);
      if (callbacks.size > 0) return;
      signal.removeEventListener('abort', listen);
      this.#listeners.delete(signal);
    };
  }

  #listenerOf(signal: AbortSignal): Listener {
    const known = this.#listeners.get(signal);
    if (known !== undefined) return known;
    const callbacks = new Set<() => void>();
    const listen = (): void => {
      for (const each of [...callbacks]) each();
    };
    this.#listeners.set(signal, { callbacks, listen });
    signal.addEventListener('abort', listen);
    return { callbacks, listen };
  }
}
