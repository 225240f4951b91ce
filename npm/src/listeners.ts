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

/** Lets the platform report an error of the application's as if nothing had caught it. */
function reportUncaught(error: unknown): void {
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
  else queueMicrotask(() => { throw error; });
}
