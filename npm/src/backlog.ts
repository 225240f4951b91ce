import type { Core } from "./boundary.js";
import { CallError } from "./errors.js";

/** One call or notification that waits for the core. */
export interface Submission {
  /** Bytes that it holds back. */
  size: number;
  send(core: Core): void;
  /** The client closed first. */
  drop(reason: CallError): void;
}

/** As many as the core itself holds back for a socket (`max_outgoing_frames` and `max_outgoing_bytes` in `limits.rs`). */
const MOST_SUBMISSIONS = 2_048;
const MOST_BYTES = 1024 * 1024;

/** Calls and notifications made before the wasm is there, in order and bounded. */
export class Backlog {
  readonly #submissions = new Set<Submission>();
  #bytes = 0;

  get isEmpty(): boolean {
    return this.#submissions.size === 0;
  }

  /** @throws CallError `backpressure` when full */
  add(submission: Submission): void {
    if (this.#submissions.size >= MOST_SUBMISSIONS || this.#bytes + submission.size > MOST_BYTES) {
      throw new CallError("backpressure", "Too much waits for the connection to begin");
    }
    this.#submissions.add(submission);
    this.#bytes += submission.size;
  }

  remove(submission: Submission): void {
    if (this.#submissions.delete(submission)) this.#bytes -= submission.size;
  }

  /** Sends everything, also what is added meanwhile. */
  flush(core: Core): void {
    for (const submission of this.#submissions) {
      submission.send(core);
      this.remove(submission);
    }
  }

  clear(reason: CallError): void {
    for (const submission of this.#submissions) {
      this.remove(submission);
      submission.drop(reason);
    }
  }
}
