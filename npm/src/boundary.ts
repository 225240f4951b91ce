/**
 * The private boundary between this shell and the Rust driver (`crates/client-wasm`).
 *
 * The shell owns what only JavaScript can do well: JSON, promises, listeners, fetching. Every decision about the
 * protocol is on the other side. Nothing here is public.
 */

import type { TokenRequest } from "./connect-types.js";

/** How a payload's bytes are to be read: 0 as they are, 1 as JSON in UTF-8. */
export type Encoding = number;

/**
 * A failure as Rust reports it. The registry's texts are not in the wasm: what is empty or missing here, `codes.gen.ts`
 * has for the code.
 */
export interface CoreFailure {
  code: string;
  message: string;
  remedy?: string;
  retryable?: boolean;
  ref?: string;
  /** When the server wants to be asked again. */
  retryAfterMs?: number | undefined;
  encoding?: Encoding;
  data?: Uint8Array;
}

/** `attempt` is 1 for the first try since the last connection; with `retryInMs` it is the one that is waited for. */
export interface StatusEvent {
  status: "connecting" | "connected" | "closed";
  attempt: number;
  retryInMs?: number;
  error?: CoreFailure;
}

export interface SessionInfo {
  id: string;
  /** The session as a member of channels, in hexadecimal. */
  member: string;
  encryption: {
    suite: "aes-256-gcm" | "chacha20-poly1305" | "off";
    trust: "pinned" | "discovered" | "shared_key" | "none";
    serverKey?: string | undefined;
  };
  serverVersion: string;
  limits: {
    maxMessage: number;
    maxCallsInFlight: number;
    messagesPerSecond?: number | undefined;
    bytesPerSecond?: number | undefined;
  };
  heartbeatMs: number;
  serverTimeMs: number;
  url: string;
  resumed: boolean;
  admission: Admission;
}

/** Who the client is: JSON as bytes, what the auth handler gave, and how long it holds. */
export interface Admission {
  identity?: Uint8Array | undefined;
  encoding?: Encoding | undefined;
  data?: Uint8Array | undefined;
  expiresInMs?: number | undefined;
}

export interface CoreOptions {
  url: string;
  encryption: "aes-256-gcm" | "chacha20-poly1305" | "off";
  serverKeys: string[];
  allowInsecureDiscovery: boolean;
  /** Empty for none. */
  sharedKey: string;
  /** Whether `authorize` is asked before each connection. */
  asksForCredentials: boolean;
  connectTimeoutMs: number;
  callTimeoutMs: number;
  reconnect: boolean;
  reconnectBaseMs: number;
  reconnectMaxMs: number;
  clientVersion: string;
}

/** Without a document, `status` is 0 where the browser hides the answer. */
export type DiscoveryResult =
  | { kind: "answer"; status: number; document?: unknown }
  | { kind: "unreachable" };

/** What a socket is to the shell: something to hand over. Rust sets its handlers. */
export type Socket = object;

export type ResetReason = "expired" | "overflow" | "restart" | "unknown";

/** Called only while no Rust borrow is held, so each may call back into `Core`. */
export interface CoreHost {
  openSocket(url: string, protocols: string[]): Socket;
  discover(ticket: number, httpUrl: string): void;
  /** Answer with `authorized`. */
  authorize(ticket: number, attempt: number, reason: TokenRequest["reason"]): void;
  /** What `authenticate` gave this number for has come to one of both. Numbers of the core's own come, too. */
  onAuthenticated(id: number, admission: Admission | undefined, failure: CoreFailure | undefined): void;
  onWarning(warning: CoreFailure): void;
  onStatus(event: StatusEvent): void;
  onSession(info: SessionInfo): void;
  /**
   * Before anything of the next session. `unconfirmed` is flat: for each message its name and a number, -1 for a call,
   * the receipt of a notification, 0 for one without.
   */
  onReset(reason: ResetReason, unconfirmed: (string | number)[]): void;
  /** The server has got the notification. Every receipt is told of once: so, by `onRefused` or in a reset. */
  onConfirmed(receipt: number): void;
  /** The notification is not sent: it is more than the server takes, as is known now. */
  onRefused(receipt: number, failure: CoreFailure): void;
  /** There is room again for what was refused as `backpressure`. */
  onRoom(): void;
  /** The end of a stream settles as ok without a body. */
  onSettled(
    id: number,
    ok: boolean,
    encoding: Encoding,
    body: Uint8Array | undefined,
    failure: CoreFailure | undefined,
  ): void;
  onItem(id: number, encoding: Encoding, body: Uint8Array): void;
  onCall(id: number, name: string, encoding: Encoding, body: Uint8Array, isStream: boolean): void;
  /** The server takes more items of this stream. */
  onCredit(id: number): void;
  onCancelled(id: number): void;
  onMessage(name: string, encoding: Encoding, body: Uint8Array, volatile: boolean): void;
  /**
   * How a channel goes on, on this connection, and from where, where that is known; `past` is for `follow`. What was on its
   * way when a channel was unfollowed is still told of its id: this, updates, snapshots, members and the end.
   */
  onChannelOpened(id: number, start: ChannelStart, position: Uint8Array | undefined, past: number): void;
  /** `before`: it had been written before the channel was opened on this connection. */
  onUpdate(
    id: number,
    position: Uint8Array,
    at: number,
    before: boolean,
    member: string,
    subject: string,
    encoding: Encoding,
    body: Uint8Array,
  ): void;
  /** It covers everything up to the position. */
  onSnapshot(id: number, position: Uint8Array, at: number, body: Uint8Array): void;
  /** All has been told that was there when it was opened. Once after each `onChannelOpened`, at once if there was nothing. */
  onCaughtUp(id: number): void;
  /** Never kept, never repeated. */
  onVolatile(id: number, at: number, member: string, subject: string, encoding: Encoding, body: Uint8Array): void;
  /** For this client alone, in a channel of this name. */
  onDirect(
    kind: ChannelKind,
    name: string,
    at: number,
    member: string,
    subject: string,
    encoding: Encoding,
    body: Uint8Array,
  ): void;
  /**
   * Who is in a channel, or what changed of it. Flat, seven for each: the id in hexadecimal, 0 left, 1 here or 2 away, the
   * subject, when it joined, since when it is away, and what it says for itself as encoding and body. Of one that left there
   * is only the id.
   */
  onMembers(id: number, whole: boolean, members: unknown[]): void;
  /** Nothing comes after it. */
  onChannelClosed(id: number, failure: CoreFailure): void;
}

/** 1 a topic, 4 a store: as in PROTOCOL.md § Channels. */
export type ChannelKind = 1 | 4;

/** What is asked of a channel: as in PROTOCOL.md § Requests. */
export const APPEND = 1;
export const SEND = 2;
export const PRESENT = 3;
export const HISTORY = 4;
export const SNAPSHOT = 5;
export const KEEP = 6;
export const VALUE = 7;

/** The last three are gaps. */
export type ChannelStart = "new" | "recovered" | "recreated" | "diverged" | "trimmed";

/** One client's protocol state, in wasm. Methods that say so throw a {@link CoreFailure}. */
export interface Core {
  start(): void;
  /** Throws. Never settles the call before it has returned the id. With `credit` it asks for a stream. */
  call(name: string, encoding: Encoding, body: Uint8Array, timeoutMs?: number, key?: string, credit?: number): number;
  /** Takes more items of a stream. */
  grant(id: number, more: number): void;
  /** After this, `onSettled` and `onItem` are never called for the id. */
  cancel(id: number): void;
  /** Throws. Volatile while not connected is dropped. */
  notify(name: string, encoding: Encoding, body: Uint8Array, volatile: boolean): void;
  /** Throws. Gives a receipt, for `onConfirmed` or `onReset`. */
  notifyConfirmed(name: string, encoding: Encoding, body: Uint8Array): number;
  /**
   * Throws. Follows a channel over every connection, from `since` if that is there. With data the client is a member. `past` is
   * what `onChannelOpened` said before: up to there a quiet one that has not come so far is told its own, too. `instead` is the
   * id of which this takes the place, so that a member of both has never left; after a failure that one is followed still.
   */
  follow(
    kind: ChannelKind,
    name: string,
    history: number,
    quiet: boolean,
    members: boolean,
    since?: Uint8Array,
    encoding?: Encoding,
    data?: Uint8Array,
    past?: number,
    instead?: number,
  ): number;
  /**
   * Nothing more of its log is told, nor what is volatile, on this connection and on later ones, until it is followed instead.
   * The client stays a member, and is told of members and the end. What was on its way comes.
   */
  hold(id: number): void;
  unfollow(id: number): void;
  /**
   * Throws. Settles by `onSettled` as a call does. `target` is what `what` is about: a member, a position or a hash; `count` is
   * for history. What a client shows of itself (`PRESENT`) it shows whenever the channel is opened again, too.
   */
  request(
    kind: ChannelKind,
    what: number,
    name: string,
    target: Uint8Array | undefined,
    count: number,
    encoding: Encoding,
    body: Uint8Array,
    timeoutMs?: number,
    key?: string,
  ): number;
  /** Throws for a bad name or size. While not connected it is dropped. */
  volatile(kind: ChannelKind, name: string, encoding: Encoding, body: Uint8Array): void;
  /**
   * Throws. Reads the answer to a request for history: whether there is more, and then flat for each message its position, when
   * it was published, member, subject, encoding and body, the oldest first.
   */
  page(body: Uint8Array): unknown[];
  /** Throws; `backpressure` until `onCredit` or `onRoom`. */
  item(id: number, encoding: Encoding, body: Uint8Array): void;
  /** Ends a stream that the server asked for. */
  end(id: number): void;
  /** Throws when the result is too large, after it has told the server so. */
  reply(id: number, encoding: Encoding, body: Uint8Array): void;
  /** Throws as `reply`. */
  fail(id: number, code: string, message: string, encoding?: Encoding, data?: Uint8Array): void;
  discovered(ticket: number, result: DiscoveryResult): void;
  /** With `has` false there is nothing to show now. */
  authorized(ticket: number, has: boolean, token?: string, encoding?: Encoding, data?: Uint8Array): void;
  /**
   * On the open connection, or the next one. Throws: `backpressure` while the last is not answered, `connection_lost` while
   * an answer to what was shown before is on its way.
   */
  authenticate(token?: string, encoding?: Encoding, data?: Uint8Array): number;
  /** Takes back what nobody has seen; whether it could. Then `onAuthenticated` is never called for the id. */
  withdraw(id: number): boolean;
  /** The public half of the client's key. */
  clientKey(): Uint8Array;
  retryNow(): void;
  ping(): void;
  stats(): { bytesSent: number; bytesReceived: number; rttMs?: number | undefined; buffered: number };
  /** Polite end. `onStatus` with "closed" follows. */
  close(): void;
  free(): void;
}

/** Throws for a bad server key, URL or combination of options. */
export type CoreClass = new (options: CoreOptions, host: CoreHost) => Core;
