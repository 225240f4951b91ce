import type { Core } from "./boundary.js";
import { CallError } from "./errors.js";
import { fromCore } from "./failure.js";
import type { Payload } from "./payload.js";

/** A call or notification on its way to the core. */
export interface Submission {
  payload: Payload;
  /** Somebody waits for what becomes of it, so that it may wait for room. */
  mayWait: boolean;
  /** May throw what the core throws. */
  send(core: Core, payload: Payload): void;
  /** It had to wait, and then could not be sent. */
  drop(reason: Error): void;
}

// As many as the core itself keeps for the server: `max_outgoing_frames` and `max_outgoing_bytes` in limits.rs. As there,
// the last one may stand out.
const MOST_SUBMISSIONS = 2_048;
const MOST_BYTES = 1024 * 1024;

/** What is submitted before the wasm is there or while the core has no room, in order and bounded. */
export class Backlog {
  readonly #submissions = new Set<Submission>();
  #bytes = 0;
  #isStuck = false;

  get isEmpty(): boolean {
    return this.#submissions.size === 0;
  }

  /** @throws CallError `backpressure` when full, or when the core is and this may not wait */
  add(submission: Submission): void {
    const { encoding, body } = submission.payload;
    const isFull = this.#submissions.size >= MOST_SUBMISSIONS || this.#bytes >= MOST_BYTES;
    if (isFull || (this.#isStuck && !submission.mayWait)) throw new CallError("backpressure");
    // A copy, because the caller may use its buffer again.
    submission.payload = { encoding, body: new Uint8Array(body) };
    this.#submissions.add(submission);
    this.#bytes += body.length;
  }

  remove(submission: Submission): void {
    if (!this.#submissions.delete(submission)) return;
    this.#bytes -= submission.payload.body.length;
    if (this.isEmpty) this.#isStuck = false;
  }

  /** Sends one at once. One that the core has no room for waits here, if it may. Throws what the core throws. */
  send(core: Core, submission: Submission): void {
    try {
      submission.send(core, submission.payload);
    } catch (failure) {
      if (!submission.mayWait || !isBackpressure(failure)) throw failure;
      this.add(submission);
      this.#isStuck = true;
    }
  }

  /** Sends everything, also what is added meanwhile, as far as the core has room. */
  flush(core: Core): void {
    for (const submission of this.#submissions) {
      try {
        submission.send(core, submission.payload);
      } catch (failure) {
        this.#isStuck = isBackpressure(failure);
        if (this.#isStuck) return;
        submission.drop(fromCore(CallError, failure));
      }
      // Only now: as long as one is here, later ones queue up behind it.
      this.remove(submission);
    }
  }

  clear(reason: Error): void {
    for (const submission of this.#submissions) {
      this.remove(submission);
      submission.drop(reason);
    }
  }
}

export function isBackpressure(failure: unknown): boolean {
  return (failure as { code?: unknown } | undefined)?.code === "backpressure";
}
