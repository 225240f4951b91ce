/** Removes what it came from: a listener or a handler. Calling it twice does nothing more. */
export type Unsubscribe = () => void;

/** Listeners of one event. One that throws is reported and does not keep the others from hearing. */
export class Listeners<T> {
  // A wrapper for each registration: the same function registered twice is called twice, and removed one by one.
  readonly #registrations = new Set<{ listener: (value: T) => void }>();

  get isEmpty(): boolean {
    return this.#registrations.size === 0;
  }

  add(listener: (value: T) => void): Unsubscribe {
    const registration = { listener };
    this.#registrations.add(registration);
    return () => void this.#registrations.delete(registration);
  }

  /** Nobody hears anything any more, also where an event is being told. */
  clear(): void {
    this.#registrations.clear();
  }

  emit(value: T): void {
    // Over a copy: who registers while an event is told hears from the next one on.
    for (const registration of [...this.#registrations]) {
      if (!this.#registrations.has(registration)) continue;
      try {
        registration.listener(value);
      } catch (error) {
        reportUncaught(error);
      }
    }
  }
}

/** Tells what there is at the moment, whenever `changes` are told and it is another one than before. */
export function follow<T>(changes: Listeners<void>, current: () => T, listener: (value: T) => void): Unsubscribe {
  let told = current();
  return changes.add(() => {
    const value = current();
    if (value === told) return;
    told = value;
    listener(value);
  });
}

/** Listeners by name. Names that nobody listens to any more take no room: an application may make them up as it goes. */
export class NamedListeners<T> {
  readonly #byName = new Map<string, Listeners<T>>();

  /** How many names are listened to. */
  get size(): number {
    return this.#byName.size;
  }

  of(name: string): Listeners<T> | undefined {
    return this.#byName.get(name);
  }

  add(name: string, listener: (value: T) => void): Unsubscribe {
    const present = this.#byName.get(name);
    const listeners = present ?? new Listeners<T>();
    if (!present) this.#byName.set(name, listeners);
    const remove = listeners.add(listener);
    return () => {
      remove();
      // Called again, the name may have come to others since.
      if (listeners.isEmpty && this.#byName.get(name) === listeners) this.#byName.delete(name);
    };
  }
}

/** Lets the platform report an error of the application's as if nothing had caught it. */
export function reportUncaught(error: unknown): void {
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
  else queueMicrotask(() => { throw error; });
}
