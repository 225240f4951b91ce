import { codes, type Code } from "./codes.gen.js";

// In the global registry, so that two copies of this package on one page know each other's errors.
const brand = Symbol.for("moorline.error");

/** What is known of an error beside its code and message. What is left out comes from the registry of codes. */
export interface ErrorDetails {
  /** What a person can do about it. */
  remedy?: string | undefined;
  /** Whether the same may succeed later without a change. */
  retryable?: boolean | undefined;
  /** The reference that the server's log line carries too. */
  ref?: string | undefined;
  /** What the other side's application attached. */
  data?: unknown;
  /** What led to it. */
  cause?: unknown;
}

/**
 * Any failure of this package, except an abort: that rejects with the signal's own `reason`.
 *
 * Compare `code`, which is stable; show `remedy`, which is written for people.
 */
export class MoorlineError extends Error {
  override name = "MoorlineError";
  /** Stable name of the failure: one of the protocol's codes, or the application's own. */
  readonly code: Code | (string & {});
  /** What a person can do about it, in a sentence. */
  readonly remedy: string;
  /** Whether the same may succeed later without a change. */
  readonly retryable: boolean;
  /** Reference of the server's log line, when the server refused or closed. */
  readonly ref: string | undefined;
  /** What the other side's application attached to its failure. */
  readonly data: unknown;

  constructor(code: Code | (string & {}), message?: string, details: ErrorDetails = {}) {
    const entry = Object.hasOwn(codes, code) ? codes[code as Code] : undefined;
    super(message || entry?.text || code, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.remedy = details.remedy || entry?.remedy || this.message;
    this.retryable = details.retryable ?? entry?.retryable ?? false;
    this.ref = details.ref;
    this.data = details.data;
  }

  get [brand](): true {
    return true;
  }

  /** Whether `value` is an error of this package, of whichever copy or bundle of it. Use it instead of `instanceof`. */
  static is(value: unknown): value is MoorlineError {
    return typeof value === "object" && value !== null && brand in value;
  }
}

/** The connection cannot be made, or has ended: in `client.status.error`, and as the reason why `ready()` rejects. */
export class ConnectError extends MoorlineError {
  override name = "ConnectError";
}

/**
 * The server does not let this client in as what it shows: `unauthorized`, `token_missing`, `token_expired`,
 * `credentials_unavailable`, or the code that its auth handler gave.
 */
export class AuthError extends ConnectError {
  override name = "AuthError";
}

/**
 * A call or notification did not go through. `code` is the protocol's (`timeout`, `not_found`, `unknown`, …) or, where
 * the handler answered with a failure of its own, the application's.
 */
export class CallError extends MoorlineError {
  override name = "CallError";
}

/**
 * A topic cannot be followed any more, or something did not go through there: `forbidden`, `no_such_channel`, `no_such_member`,
 * `too_large`, `overflow` where a loop reads too slowly and does not want to wait, and what a call may end with.
 */
export class ChannelError extends MoorlineError {
  override name = "ChannelError";
}

/**
 * Thrown by a page's handler to answer a server's call with a failure that the server may read.
 *
 * ```ts
 * client.handle("pickMove", (board) => { throw new Fail("no_move", "The game is over"); });
 * ```
 * Every other MoorlineError that a handler throws goes the same way, and anything else reaches the server as `internal`,
 * without its text.
 */
export class Fail extends MoorlineError {
  override name = "Fail";

  /**
   * @param code    a name of the application's own, stable
   * @param message a sentence for people
   * @param details `data` travels with it: a `Uint8Array` as bytes, anything else as JSON
   */
  constructor(code: string, message: string, details: { data?: unknown } = {}) {
    super(code, message, details);
  }
}
