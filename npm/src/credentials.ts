import type { Encoding } from "./boundary.js";
import type { TokenProvider, TokenRequest } from "./connect-types.js";
import { encode } from "./payload.js";

/** What the core takes as credentials: a token, and data for the server's auth handler. */
export interface Shown {
  token: string | undefined;
  encoding: Encoding | undefined;
  data: Uint8Array | undefined;
}

/** What is shown: at most one of both comes from `authenticate`. */
interface Given {
  token?: TokenProvider | string | undefined;
  auth?: unknown;
}

/** What a client shows for itself: asked for fresh before each connection, and before it expires. */
export class Credentials {
  readonly #configured: Given;
  /** What the application has shown since, and the server has taken. It counts instead. */
  #shown: Given | undefined;
  /** Ends what the last question began: an answer that comes later means nothing any more. */
  #asking: AbortController | undefined;

  constructor(configured: Given) {
    this.#configured = configured;
  }

  /** @throws what the provider throws, or `TypeError` when it gives no text */
  async get(request: Omit<TokenRequest, "signal">): Promise<Shown> {
    this.stop();
    const asking = (this.#asking = new AbortController());
    if (request.reason === "expired") this.renewed();
    // Until something fresh is taken, what is shown stays good.
    const isOver = request.reason === "expiring" && this.#isSurvived;
    const { token, auth } = (isOver ? undefined : this.#shown) ?? this.#configured;
    const given = typeof token === "function" ? await token({ ...request, signal: asking.signal }) : token;
    if (given !== undefined && typeof given !== "string") throw new TypeError("The token provider gave no text");
    return shown(given, auth);
  }

  /** From now on this is shown. */
  adopt(given: Given): void {
    this.stop();
    this.#shown = given;
  }

  /** The server has taken something fresh, or wants it: a token that was shown by itself has had its time. */
  renewed(): void {
    if (this.#isSurvived) this.#shown = undefined;
  }

  /** Nobody waits for an answer any more. */
  stop(): void {
    this.#asking?.abort();
    this.#asking = undefined;
  }

  /** A token cannot renew itself, a provider can. */
  get #isSurvived(): boolean {
    return this.#shown?.token !== undefined && typeof this.#configured.token === "function";
  }
}

/** `auth` has a JSON form: the options were checked. */
export function shown(token: string | undefined, auth: unknown): Shown {
  if (auth === undefined) return { token, encoding: undefined, data: undefined };
  const { encoding, body } = encode(auth);
  return { token, encoding, data: body };
}

/** Bytes as base64url without padding, as claims of tokens have them (RFC 7515 § 2). */
export function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
