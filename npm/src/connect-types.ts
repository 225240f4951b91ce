import type { WaitOptions } from "./call-types.js";

/** Where the wasm comes from: its bytes, a URL to fetch, a compiled module, a response, or a promise of one of these. */
export type WasmSource = WasmValue | PromiseLike<WasmValue>;
type WasmValue = ArrayBuffer | ArrayBufferView | URL | string | WasmModule | Response;

// `WebAssembly.Module`, spelled so that projects for Node, which do without the library DOM, can read it too.
type WasmModule = typeof globalThis extends { WebAssembly: { Module: new (...source: never[]) => infer M } } ? M : object;

/** A constructor like the browser's `WebSocket`, or the one of npm's `ws`. */
export type WebSocketClass = new (url: string, protocols: string[]) => {
  binaryType: string;
  send(data: ArrayBuffer): void;
  close(code?: number, reason?: string): void;
};

/** Options of {@link Connect | connect}. An unknown name or a wrong value throws `invalid_option` at once. */
export interface ConnectOptions {
  /**
   * Public key of the server, as `moorline identity show` prints it (`mlpub_…`): one, several in an array, or several
   * in a string with commas. With none the key is asked from the server, which over plain `ws://` is refused beyond
   * localhost. Default: none.
   */
  serverKey?: string | readonly string[] | undefined;
  /**
   * The cipher, or `"off"` for none, which the server must have too. Default: `"aes-256-gcm"`. `"chacha20-poly1305"` is
   * the faster one in a browser for much data.
   */
  encryption?: "aes-256-gcm" | "chacha20-poly1305" | "off" | undefined;
  /**
   * A token (a JSON Web Token, say) that tells the server who this is: a text, or a function that gives one. The function
   * is asked before each connection, and again before the last token expires, so that the connection goes on without a
   * drop. It is sealed on its way and never stands in a URL. Default: none.
   */
  token?: string | TokenProvider | undefined;
  /** What the server's auth handler is to see: a `Uint8Array` as bytes, anything else as JSON. Default: none. */
  auth?: unknown;
  /**
   * A key that this client and the server share, as `moorline key new` prints it (`mlkey_…`). Whoever can read the page can
   * read it: it is for apps and services, not for the public web. It also shows that the server is the right one, so that
   * no `serverKey` is needed. Default: none.
   */
  sharedKey?: string | undefined;
  /** Take the server's key as found, even over plain `ws://` on a network. For experiments. Default: `false`. */
  allowInsecureDiscovery?: boolean | undefined;
  /** How long one try may take, from opening the socket to the end of the handshake, in ms. Default: 10,000. */
  connectTimeoutMs?: number | undefined;
  /** How long a call waits for its answer, in ms, also while connecting; `Infinity` for no limit. Default: 10,000. */
  callTimeoutMs?: number | undefined;
  /** Connect again after a loss or a failed try, without end. `false`: the first of these closes. Default: `true`. */
  reconnect?: boolean | undefined;
  /** Upper bound of the first wait before a new try, in ms; it doubles with each failure, the wait is random below it. Default: 200. */
  reconnectBaseMs?: number | undefined;
  /** Upper bound of every wait before a new try, in ms. Default: 20,000. */
  reconnectMaxMs?: number | undefined;
  /**
   * What becomes of calls and notifications while there is no connection. `"queue"`: they wait for one, in order, up to
   * 2,048 messages or 1 MiB. `"fail"`: they fail at once with `connection_lost`. Default: `"queue"`.
   */
  offline?: "queue" | "fail" | undefined;
  /** The WebSocket to use. Default: the global one; without one the entry `moorline` takes that of `ws` in Node. */
  webSocket?: WebSocketClass | undefined;
  /**
   * Where the wasm comes from, instead of where the entry looks for it (`moorline/slim` looks nowhere and needs it). A
   * page loads it once: when it is loaded already, this is not used. Default: beside the module.
   */
  wasm?: WasmSource | undefined;
}

/** What a token provider is asked. */
export interface TokenRequest {
  /**
   * `connect`: for the first connection. `reconnect`: for another. `expired`: the server did not take the last one any
   * more. `expiring`: the last one is about to expire.
   */
  readonly reason: "connect" | "reconnect" | "expired" | "expiring";
  /** Number of the try that it is for, as in `client.status`; 0 for `expiring`. */
  readonly attempt: number;
  /**
   * The public half of this client's key, in base64url: a token whose claim `cnf` is `{ "mlk": clientKey }` is of use to this
   * client alone. New for each `connect()`.
   */
  readonly clientKey: string;
  /** Aborted when the answer is no longer waited for. */
  readonly signal: AbortSignal;
}

/** Gives a token that is not about to expire. What it throws is the `cause` of `credentials_unavailable`, which is tried again. */
export type TokenProvider = (request: TokenRequest) => string | PromiseLike<string>;

/** Options of {@link Preload | preload}. The default of `timeoutMs` is `Infinity`. */
export interface PreloadOptions extends WaitOptions {
  /** As in {@link ConnectOptions}. */
  wasm?: WasmSource | undefined;
}
