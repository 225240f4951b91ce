import type { Encoding } from "./boundary.js";
import { encode } from "./payload.js";
import type { TokenProvider, TokenRequest } from "./types.js";

/** What the core takes as credentials: a token, and data for the server's auth handler. */
export interface Shown {
  token: string | undefined;
  encoding: Encoding | undefined;
  data: Uint8Array | undefined;
}

/** What a client shows for itself: asked for fresh before each connection, and before it expires. */
export class Credentials {
  #token: TokenProvider | string | undefined;
  #data: unknown;
  /** Ends what the last question began: an answer that comes later means nothing any more. */
  #asking: AbortController | undefined;

  constructor(token: TokenProvider | string | undefined, data: unknown) {
    this.#token = token;
    this.#data = data;
  }

  /** @throws what the provider throws, or `TypeError` when it gives no text */
  async get(request: Omit<TokenRequest, "signal">): Promise<Shown> {
    this.stop();
    const asking = (this.#asking = new AbortController());
    const given = typeof this.#token === "function"
      ? await this.#token({ ...request, signal: asking.signal })
      : this.#token;
    if (given !== undefined && typeof given !== "string") throw new TypeError("The token provider gave no text");
    return shown(given, this.#data);
  }

  /** From now on this is shown, whatever was before. */
  replace(token: string | undefined, auth: unknown): void {
    [this.#token, this.#data] = [token, auth];
  }

  /** Nobody waits for an answer any more. */
  stop(): void {
    this.#asking?.abort();
    this.#asking = undefined;
  }
}

/** @throws CallError `unreadable` when the data has no JSON form */
export function shown(token: string | undefined, auth: unknown): Shown {
  if (auth === undefined) return { token, encoding: undefined, data: undefined };
  const { encoding, body } = encode(auth);
  return { token, encoding, data: body };
}

/** Bytes as base64url without padding, as claims of tokens have them (RFC 7515 § 2). */
export function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
