import type { Core } from "./boundary.js";
import { CallError } from "./errors.js";
import { fromCore } from "./failure.js";
import type { Payload } from "./payload.js";

/** A call or notification on its way to the core. */
export interface Submission {
  payload: Payload;
  /** May throw what the core throws. */
  send(core: Core, payload: Payload): void;
  /** It had to wait, and then could not be sent. */
  drop(reason: Error): void;
}

// As many as the core itself holds back for a socket: `max_outgoing_frames` and `max_outgoing_bytes` in limits.rs.
const MOST_SUBMISSIONS = 2_048;
const MOST_BYTES = 1024 * 1024;

/** What is submitted before the wasm is there, in order and bounded. */
export class Backlog {
  readonly #submissions = new Set<Submission>();
  #bytes = 0;

  get isEmpty(): boolean {
    return this.#submissions.size === 0;
  }

  /** @throws CallError `backpressure` when full */
  add(submission: Submission): void {
    const { encoding, body } = submission.payload;
    if (this.#submissions.size >= MOST_SUBMISSIONS || this.#bytes + body.length > MOST_BYTES) {
      throw new CallError("backpressure", "Too much waits for the connection to begin");
    }
    // A copy, because the caller may use its buffer again.
    submission.payload = { encoding, body: new Uint8Array(body) };
    this.#submissions.add(submission);
    this.#bytes += body.length;
  }

  remove(submission: Submission): void {
    if (this.#submissions.delete(submission)) this.#bytes -= submission.payload.body.length;
  }

  /** Sends everything, also what is added meanwhile. */
  flush(core: Core): void {
    for (const submission of this.#submissions) {
      try {
        submission.send(core, submission.payload);
      } catch (failure) {
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
