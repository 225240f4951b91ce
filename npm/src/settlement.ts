import type { MoorlineError } from "./errors.js";

/** Longer waits would make `setTimeout` fire at once, so they are cut: 24 days are as good as forever. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface Bounds {
  /** Milliseconds from now; `Infinity` for no limit. */
  timeoutMs: number;
  signal: AbortSignal | undefined;
  /** Makes the error of a timeout, at the time of the timeout. */
  timedOut: () => MoorlineError;
}

/** A promise with its deadline and signal: settles exactly once, and lets go of both when it does. */
export class Settlement<T> {
  readonly promise: Promise<T>;
  /** Run when the caller gave up (a timeout or an abort): takes back what is under way. */
  onAbandoned: (() => void) | undefined;

  #resolve!: (value: T) => void;
  #reject!: (reason: unknown) => void;
  #open = true;
  readonly #deadline: number;
  readonly #signal: AbortSignal | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor({ timeoutMs, signal, timedOut }: Bounds) {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    const waitMs = Math.min(timeoutMs, LONGEST_TIMER_MS);
    this.#deadline = performance.now() + waitMs;
    this.#timer = setTimeout(() => this.#abandon(timedOut()), waitMs);
    this.#signal = signal;
    if (signal?.aborted) this.#abandon(signal.reason);
    else signal?.addEventListener("abort", this.#onAbort);
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** What is left of the time, in whole milliseconds and at least one. */
  get remainingMs(): number {
    return Math.max(1, Math.round(this.#deadline - performance.now()));
  }

  /** Somebody else looks at the clock from now on. */
  stopClock(): void {
    clearTimeout(this.#timer);
  }

  resolve(value: T): void {
    if (this.#close()) this.#resolve(value);
  }

  reject(reason: unknown): void {
    if (this.#close()) this.#reject(reason);
  }

  /** The caller wants nothing of it any more, and hears nothing: {@link promise} stays as it is. */
  abandon(): void {
    if (this.#close()) this.onAbandoned?.();
  }

  readonly #onAbort = (): void => this.#abandon(this.#signal?.reason);

  #abandon(reason: unknown): void {
    if (!this.#close()) return;
    this.onAbandoned?.();
    this.#reject(reason);
  }

  #close(): boolean {
    if (!this.#open) return false;
    this.#open = false;
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#onAbort);
    return true;
  }
}
