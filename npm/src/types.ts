/// <reference lib="esnext.disposable" preserve="true" />
import type {
  ApiShape, ArgumentOf, DataAndOptions, Declared, ItemOf, MessageOf, NameIn, ResultOf, TopicName, UntypedApi,
} from "./api.js";
import type { Code } from "./codes.gen.js";
import type { ConnectError, MoorlineError } from "./errors.js";
import type { Unsubscribe } from "./listeners.js";
import type { Store, StoreOptions } from "./store-types.js";

export type { Unsubscribe };

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
  /** Number of the try that it is for, as in {@link Status}; 0 for `expiring`. */
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

/** Who this client is, as the server says. */
export interface Identity {
  /** Its name in its tenant; `anonymous` for everybody who has not signed in. */
  readonly subject: string;
  readonly tenant: string;
  readonly role: string | undefined;
  /** What it may do; `undefined` where it came without a list, so that only what declarations ask for is kept from it. */
  readonly scopes: readonly string[] | undefined;
  /** What else the token or the auth handler says of it. */
  readonly meta: unknown;
  /** What the auth handler gave this client. */
  readonly data: unknown;
  /** When it expires, in ms since 1970 by this machine's clock; `undefined` if it lasts as long as the connection. */
  readonly expiresAtMs: number | undefined;
}

/** What `client.authenticate` shows: one of both. The default of `timeoutMs` is the client's `callTimeoutMs`. */
export interface AuthenticateOptions extends WaitOptions {
  token?: string | undefined;
  auth?: unknown;
}

/** Something that the server says before it becomes a reason to refuse or to close. */
export interface Warning {
  /** The code that it would be. */
  readonly code: Code | (string & {});
  /** A sentence for whoever runs the client. */
  readonly message: string;
}

/** How long to wait, and what ends the wait. */
export interface WaitOptions {
  /** Limit in ms; `Infinity` for none. Each method gives its default. Beyond it: `timeout`. */
  timeoutMs?: number | undefined;
  /** An abort rejects with the signal's `reason`. */
  signal?: AbortSignal | undefined;
}

/** What all that is sent has in common. */
export interface SendOptions {
  /** As in {@link ConnectOptions}, for this message alone. Default: the client's. */
  offline?: "queue" | "fail" | undefined;
}

/** Options of `client.call`. The default of `timeoutMs` is the client's `callTimeoutMs`; an abort also cancels the handler. */
export interface CallOptions extends WaitOptions, SendOptions {
  /**
   * Names this call for the server, which runs its handler once for each key within 10 minutes and answers a repetition
   * with the first answer. A call with a key is sent again after a {@link Reset} instead of rejecting with `unknown`. 1 to
   * 200 bytes, without control characters; a random UUID does. Default: none.
   */
  idempotencyKey?: string | undefined;
}

/**
 * Options of `client.stream`. `timeoutMs` is how long the first item may take, by default the client's `callTimeoutMs`; an
 * abort ends the loop with the signal's `reason` and cancels the handler.
 */
export interface StreamOptions extends WaitOptions, SendOptions {
  /** Items that the server may send ahead of the loop, 1 to 65,536. Default: 64. */
  buffer?: number | undefined;
}

/** Options of `client.notify`. */
export interface NotifyOptions extends SendOptions {
  /** May be lost: dropped while not connected or when the line is full, never delays anything else. Default: `false`. */
  volatile?: boolean | undefined;
  /** `true` is for {@link ConfirmedNotifyOptions}. Default: `false`. */
  acknowledged?: false | undefined;
}

/** Options of `client.notify` with a promise. The default of `timeoutMs` is the client's `callTimeoutMs`. */
export interface ConfirmedNotifyOptions extends WaitOptions, SendOptions {
  /** The promise resolves when the server has got the notification. It does not wait for what a listener does with it. */
  acknowledged: true;
  volatile?: false | undefined;
}

/**
 * A place in a channel, before which everything is older and after which everything is newer. Two of them can be compared
 * for equality, and nothing else can be read from one. It may be kept, in `localStorage` for instance, and be given as `since`.
 */
export type Position = string;

/** Why something is missing in a topic. */
export type GapReason =
  /** The server has made the topic anew; what was there is gone. */
  | "recreated"
  /** The server has lost something that had been told: after a crash, say, or from a backup. */
  | "diverged"
  /** More came than the server keeps: the oldest of it is not there any more. */
  | "trimmed"
  /** More came than `buffer` has room for. */
  | "overflow";

/** Who published something. The server says so, the publisher cannot. */
export interface Sender {
  /** Its id among the members, see {@link Member}; `0000000000000000` for the server. It ends with the sender's session. */
  readonly member: string;
  /** The name of its subject; empty for the server. */
  readonly subject: string;
}

/** A message of a topic. The same object for everybody who gets it on this page. */
export interface TopicMessage<T> {
  readonly data: T;
  readonly from: Sender;
  /** Where it is in the topic; `undefined` for a volatile one, which is kept nowhere. */
  readonly position: Position | undefined;
  /** When the server took it, in ms since 1970 by its clock. */
  readonly at: number;
  /** It had been there before the topic was opened on this connection: history, or what was missed meanwhile. */
  readonly recovered: boolean;
  /** Messages are missing before this one. Only on the first after a gap. */
  readonly gap?: GapReason | undefined;
}

/** A message for this client alone, see `topic.sendTo`. */
export interface Direct {
  readonly data: any;
  readonly from: Sender;
  /** When the server took it, in ms since 1970 by its clock. */
  readonly at: number;
}

/** Older messages of a topic. */
export interface HistoryPage<T> {
  /** The oldest first. */
  readonly messages: readonly TopicMessage<T>[];
  /** Whether there are still older ones. */
  readonly more: boolean;
}

/** Who is in a topic: a session, which may show something of itself. */
export interface Member {
  /** The same for a session in every topic, another one for each session. */
  readonly id: string;
  /** The name of its subject. */
  readonly subject: string;
  /** What it shows of itself, see `presence` in {@link TopicOptions}; `undefined` also if it cannot be read. */
  readonly data: any;
  /** Its connection is lost. It may come back to its session, or it leaves when the server stops waiting. */
  readonly away: boolean;
  /** When it came, in ms since 1970 by the server's clock. */
  readonly joinedAt: number;
  /** Since when it is away, in ms since 1970 by the server's clock; `undefined` while it is here. */
  readonly seenAt: number | undefined;
  /** It is this client. */
  readonly me: boolean;
}

/** Who is in a topic, as an external store: `subscribe` and `current` go with React's `useSyncExternalStore`. */
export interface Members {
  /**
   * In the order in which they were told; the same array until something changes, and what has not changed of it is the same
   * object. While there is no connection it is what was known last.
   */
  readonly current: readonly Member[];
  /** Hears of changes; the present members are not told. */
  subscribe(listener: (members: readonly Member[]) => void): Unsubscribe;
}

/** How a topic stands. The same object until something changes. */
export interface TopicState {
  /** `opening` whenever there is no connection over which it is open; `closed` is final. */
  readonly status: "opening" | "open" | "closed";
  /**
   * Of the newest opening: `true` if it went on exactly where it had been left, `false` if something is missing, see `gap`;
   * `undefined` if it began with nothing to go on from.
   */
  readonly recovered: boolean | undefined;
  /** What is missing, if the newest opening could not go on. */
  readonly gap: GapReason | undefined;
  /** Why the server, or the client, closed it; `undefined` if it was closed on purpose, or is not closed. */
  readonly error: MoorlineError | undefined;
}

/** Options of `client.topic`. */
export interface TopicOptions {
  /**
   * How many of the newest messages to begin with, 0 to 256, as far as the server keeps them; also where it cannot go on
   * from where it was. Default: 0.
   */
  history?: number | undefined;
  /** Whether to hear what this client itself publishes. Default: `true`. */
  echo?: boolean | undefined;
  /**
   * What the members see of this client: a `Uint8Array` as bytes, anything else as JSON, at most 4,096 bytes. With it, `null`
   * too, the client is a member, if the server's topic has members; without it, it is not.
   */
  presence?: unknown;
  /** Whether to be told of members. Default: `true`. */
  members?: boolean | undefined;
  /** Begin after this message, and not with `history`, as far as the server still has what comes after it. Default: none. */
  since?: Position | undefined;
  /** Messages that wait for each loop, 1 to 65,536. Default: 1,024. */
  buffer?: number | undefined;
  /**
   * What becomes of a message when `buffer` is full. `"pause"`: the topic is left on the server and followed again from the
   * same place when half of the buffer has been read, so that nothing is lost that the server keeps; volatile messages are, and
   * meanwhile others do not see this client as a member. It pauses for everybody who shares the topic on this client.
   * `"drop"`: the oldest is dropped, and the next one says `gap: "overflow"`. `"error"`: the loop throws `overflow` after
   * what is buffered. Before the first loop, and between two, the oldest is always dropped. Default: `"pause"`.
   */
  overflow?: "pause" | "drop" | "error" | undefined;
  /** An abort closes it, and its loops end at once with the signal's `reason`; an earlier one is thrown. Default: none. */
  signal?: AbortSignal | undefined;
}

/** Options of `publish`. The default of `timeoutMs` is the client's `callTimeoutMs`. */
export interface PublishOptions extends WaitOptions, SendOptions {
  /**
   * Names this message for the server, which publishes once for each subject and key within a day and answers a repetition
   * with the first position. With a key it is sent again after a {@link Reset} instead of rejecting with `unknown`. 1 to 200
   * bytes, without control characters; a random UUID does. Default: none.
   */
  idempotencyKey?: string | undefined;
  volatile?: false | undefined;
}

/** Options of `publish` for what may be lost. */
export interface VolatileOptions {
  /**
   * Kept nowhere, and dropped where it cannot go on at once: while not connected, or on a line that is full. At most 16 KiB.
   * What the server refuses it tells by the client's event `warning`.
   */
  volatile: true;
}

/** Options of `topic.history`. The default of `timeoutMs` is the client's `callTimeoutMs`. */
export interface HistoryOptions extends WaitOptions {
  /** Messages older than this one. Default: the newest ones. */
  before?: Position | undefined;
  /** How many, 1 to 256. There may be fewer, also if there are `more`. Default: 50. */
  limit?: number | undefined;
}

/** Events of `topic.on`. */
export interface TopicEvents<T> {
  /** A message, as it comes and without a buffer. */
  message: TopicMessage<T>;
  /** A message for this client alone. Who sent it need not follow the topic. */
  direct: Direct;
  /** The server could not go on where the topic had been left; the next message says so, too. */
  gap: GapReason;
}

/**
 * A topic that is followed: `for await` gives its messages, over every connection and in order, each once, and where one is
 * missing, the next one says so.
 *
 * Loops and who listens see the same messages. What comes while there is no loop waits for the next one, as much as `buffer`
 * has room for. Each loop gets everything from when it began, and ends when the topic is closed and what waits has been
 * read; if the server closed it, by throwing why.
 */
export interface Topic<T> extends AsyncIterable<TopicMessage<T>>, Disposable {
  readonly name: string;

  /** How it stands; the same object until that changes. */
  readonly current: TopicState;

  /** Hears how it stands, whenever that changes. It can be taken off the object. */
  readonly subscribe: (listener: (state: TopicState) => void) => Unsubscribe;

  /**
   * Waits until it is open; at once if it is. By default without limit.
   *
   * @throws ChannelError why the server closed it (`forbidden`, `no_such_channel`, …), `closed`, `timeout`
   */
  ready(options?: WaitOptions): Promise<this>;

  /** Who is there. */
  readonly members: Members;

  /**
   * Up to where it has been handed on: to the loop that read last or, while there is none, to who listens. To begin there
   * another time, pass it as `since`; a program that is not done with a message when it has it keeps the message's own.
   * `undefined` before there is anything.
   */
  readonly position: Position | undefined;

  /** Hears an event. After the topic is closed nothing is told. */
  on<E extends keyof TopicEvents<T>>(event: E, listener: (value: TopicEvents<T>[E]) => void): Unsubscribe;

  /** As {@link Client.publish}. @throws also ChannelError `closed` when this topic is */
  publish(data: T, options: VolatileOptions): void;
  publish(data: T, options?: PublishOptions): Promise<Position>;

  /**
   * Sends something to one member: it hears the event `direct`. Resolves when the server has handed it on or keeps it for the
   * member, which may be away.
   *
   * @throws ChannelError `no_such_member`, `forbidden`, and what a call may throw
   */
  sendTo(member: string | Member, data: unknown, options?: CallOptions): Promise<void>;

  /**
   * Reads older messages, `recovered` each of them, without handing them on.
   *
   * @throws ChannelError `unknown_position` if the server does not know `before`, `forbidden`, and what a call may throw
   */
  history(options?: HistoryOptions): Promise<HistoryPage<T>>;

  /**
   * Changes what the members see of this client, which becomes a member if it was none. Resolves when the server has it.
   * While not connected it waits for the next connection. The default of `timeoutMs` is without limit while the topic is not
   * open, and the client's `callTimeoutMs` otherwise.
   *
   * @throws ChannelError `too_large` above 4,096 bytes, `too_many_members`, and what `ready` and a call may throw
   */
  setPresence(data: unknown, options?: WaitOptions): Promise<void>;

  /** Follows it no longer. Loops end after what waits for them. A second call does nothing. */
  close(): void;
}

/** Options of {@link Preload | preload}. The default of `timeoutMs` is `Infinity`. */
export interface PreloadOptions extends WaitOptions {
  /** As in {@link ConnectOptions}. */
  wasm?: WasmSource | undefined;
}

/** Where the connection stands. The same object until something changes. */
export interface Status {
  /** `connecting` also between two tries; `closed` is final. */
  readonly status: "connecting" | "connected" | "closed";
  /** Number of the current try since the client was last connected, or of the one that is waited for; 1 is the first. */
  readonly attempt: number;
  /** While waiting for the next try: how long that wait is, in ms from the event. */
  readonly retryInMs: number | undefined;
  /** Why the last try failed, until the next one succeeds, or why the client closed; `undefined` if all is well. */
  readonly error: ConnectError | undefined;
}

/** A message of which nobody knows whether the server got it. */
export interface Unconfirmed {
  /** `call` is everything that has an answer: also what was published, sent to a member or asked of a topic. */
  readonly kind: "call" | "notify";
  /** Of the handler, the listeners or the topic. */
  readonly name: string;
}

/** The server has forgotten the session, and with it what it had not delivered to this client. */
export interface Reset {
  /**
   * `expired`: the client was away for longer than the server keeps sessions. `overflow`: more waited for it than is kept.
   * `restart`: the server was started anew. `unknown`: the server does not know the session, or does not say why.
   */
  readonly reason: "expired" | "overflow" | "restart" | "unknown";
  /**
   * In the order of sending, what the server may have got or not: its calls reject with `unknown`, acknowledged
   * notifications too. What is not listed has arrived, or goes out in the next session.
   */
  readonly unconfirmed: readonly Unconfirmed[];
}

/** What the server said when it ended the connection. */
export interface Goaway {
  /** `going_away` when it stops or restarts; `closed_by_server` when its application closed, which is final. */
  readonly code: Code | (string & {});
  /** When it wants to be asked again, in ms from now; `undefined` if it does not say. The client keeps to it. */
  readonly retryAfterMs: number | undefined;
  /** A sentence for people. */
  readonly message: string;
}

/** What the client and the server agreed on. It outlives connections: after a cut it goes on, see `resumed`. */
export interface Session {
  readonly id: string;
  /** What this client is called as a member of topics, see {@link Member}. */
  readonly member: string;
  /** Whether it is the session of the connection before, so that nothing was lost between them. */
  readonly resumed: boolean;
  readonly encryption: {
    readonly suite: "aes-256-gcm" | "chacha20-poly1305" | "off";
    /**
     * `pinned`: the key was given as `serverKey`. `discovered`: it was asked for, which is as strong as TLS. `shared_key`: it was
     * asked for, and the server has shown that it has the shared key.
     */
    readonly trust: "pinned" | "discovered" | "shared_key" | "none";
    /** The server's key, `mlpub_…`. */
    readonly serverKey?: string | undefined;
  };
  readonly serverVersion: string;
  readonly limits: {
    /** Largest payload, in bytes. */
    readonly maxMessage: number;
    /** Calls that may be open at once. */
    readonly maxCallsInFlight: number;
    /**
     * Calls and notifications a second that this client may send, five seconds' worth at once. Beyond it comes the event
     * `warning`, and when that goes on for three seconds the connection closes and the session waits. `undefined`: no limit.
     */
    readonly messagesPerSecond?: number | undefined;
    /** Bytes a second that it may send, as they are on the wire, under the same rule. `undefined`: no limit. */
    readonly bytesPerSecond?: number | undefined;
  };
  /** The server pings after so many ms of silence. */
  readonly heartbeatMs: number;
  /** The server's clock at the handshake, in ms since 1970. */
  readonly serverTimeMs: number;
  /** The URL that was dialled. */
  readonly url: string;
}

/** Counters of a client, over all its connections. */
export interface Stats {
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Last measured round trip, in ms; `undefined` before the first. */
  readonly rttMs?: number | undefined;
  /** Bytes that wait for the socket. */
  readonly buffered: number;
  /**
   * By how much the server's clock is ahead of `Date.now()`, in ms; `undefined` before the first session. Measured at each
   * handshake, exact to half a round trip.
   */
  readonly offsetMs?: number | undefined;
}

/** Events of `client.on`. */
export interface ClientEvents {
  /** The status changed; the value is the new `client.status`. */
  status: Status;
  /** A handshake succeeded; the value is the new `client.session`. Comes before the status `connected`. */
  session: Session;
  /** Who this client is: told with every connection, and when it has changed; the value is the new `client.identity`. */
  identity: Identity;
  /** The server warns: something was sent that it refuses, or too much of it. */
  warning: Warning;
  /** The session was lost. Comes exactly once for each, before anything of the next one. */
  reset: Reset;
  /**
   * The server ended the connection and said why. The status follows, and unless that is `closed` the client connects
   * again by itself.
   */
  goaway: Goaway;
  /**
   * Something failed that no promise reports: a handler threw, a notification could not be sent or read, a token not be
   * renewed in time. `cause` has what was thrown. While nobody listens, `console.error` gets it.
   */
  error: MoorlineError;
}

/** What a handler is given beside its argument. */
export interface HandlerContext<A extends ApiShape = UntypedApi> {
  /** Aborted when the server gave up on the call or the client closed; an answer is then no longer wanted. */
  readonly signal: AbortSignal;
  readonly client: Client<A>;
}

/** Answers a call of the server's: with what it returns, or with the {@link Fail} or other MoorlineError it throws. */
export type Handler<F, A extends ApiShape = UntypedApi> = (
  data: ArgumentOf<F>,
  context: HandlerContext<A>,
) => ResultOf<F> | PromiseLike<ResultOf<F>>;

/** A connection to one server, which connects by itself and again after every loss until it is closed. */
export interface Client<A extends ApiShape = UntypedApi> extends Disposable, AsyncDisposable {
  /** Where the connection stands; the same object until it changes, so that it can be compared. */
  readonly status: Status;

  /** The newest session; `undefined` until first connected. It stays while reconnecting and after the end. */
  readonly session: Session | undefined;

  /** Who this client is, as the server says; `undefined` until first connected. The same object until it is told anew. */
  readonly identity: Identity | undefined;

  /**
   * Becomes somebody else on the open connection, or the same with a fresh token, and resolves to who that is. While
   * connecting it is the next connection's, which is then tried at once. What the server has taken is shown to later
   * connections, too; a token for as long as it is good, and then a function that was given as `token` is asked again. What
   * is given up before it was sent is taken back; the server may still take what was sent, and the event `identity` tells.
   *
   * @throws AuthError why the server does not take it; the client stays who it was. `timeout`, `closed`
   */
  authenticate(options: AuthenticateOptions): Promise<Identity>;

  /**
   * Waits until connected; at once if it is. By default without limit, since the client never gives up by itself.
   *
   * @throws ConnectError why the client closed, or `timeout` with the newest connection error as `cause`
   */
  ready(options?: WaitOptions): Promise<Session>;

  /**
   * Calls a handler of the server. While connecting it waits within its own `timeoutMs`, as it does when too much is on
   * its way. A lost connection does not disturb it: the answer comes over the next one.
   *
   * A `Uint8Array` goes as bytes and anything else as JSON; the same holds for the result.
   *
   * @throws CallError with the protocol's code (`timeout`, `not_found`, `unknown` if the session was lost or the client
   *   closed after it was sent and before its answer came, so that the handler may have run or not; `too_large`,
   *   `backpressure`, `unreadable`, `closed`, …) or with the code of the handler's own failure
   */
  call<N extends NameIn<A, "calls">>(
    name: N,
    ...rest: DataAndOptions<ArgumentOf<Declared<A, "calls", N>>, CallOptions>
  ): Promise<ResultOf<Declared<A, "calls", N>>>;

  /**
   * Calls a handler of the server that answers with many items, for `for await`. It is called when the first item is asked
   * for. Leaving the loop cancels the handler; who leaves off otherwise calls `return()`. Items are sent as far ahead as
   * `buffer` says. Items that have come are given out before the error that the stream ended with.
   *
   * @throws CallError in the loop, as `call` does. Wrong options and data are thrown at once
   */
  stream<N extends NameIn<A, "streams">>(
    name: N,
    ...rest: DataAndOptions<ArgumentOf<Declared<A, "streams", N>>, StreamOptions>
  ): AsyncIterableIterator<ItemOf<Declared<A, "streams", N>>>;

  /**
   * Tells the server something and resolves when the server has got it, also over a lost connection.
   *
   * @throws CallError `unknown` if the session was lost first, `timeout`, `closed`, and what the other form throws
   */
  notify<N extends NameIn<A, "notifies">>(
    name: N,
    data: Declared<A, "notifies", N>,
    options: ConfirmedNotifyOptions,
  ): Promise<void>;

  /**
   * Tells the server something, without an answer. While connecting it waits, unless it is `volatile`.
   *
   * @throws CallError `too_large`, `backpressure` when too much waits for the server, `unreadable`, `invalid_name`,
   *   `connection_lost` if `offline` says so, `closed` (not if `volatile`)
   */
  notify<N extends NameIn<A, "notifies">>(
    name: N,
    ...rest: DataAndOptions<Declared<A, "notifies", N>, NotifyOptions>
  ): void;

  /**
   * Follows a topic, at once and over every connection, until it is closed. On a client that is closed it is closed, too.
   *
   * Each call gives an object of its own, with loops of its own, which has to be closed by itself. Objects of one name share
   * what is followed on the server, unless `echo` differs: of `presence` the newest counts, and who comes later begins with
   * what is still there of the history that was asked for before.
   *
   * @throws ChannelError `invalid_name`; MoorlineError `invalid_option`. What the server says is in `topic.current`
   */
  topic<N extends TopicName<A>>(name: N, options?: TopicOptions): Topic<MessageOf<A, N>>;

  /**
   * Opens a store, at once and over every connection, until it is closed: a log of opaque patches, as those of a CRDT, with a
   * snapshot. `moorline/yjs` and `moorline/loro` keep a document in it. Each call gives an object of its own, which begins with
   * the snapshot and has to be closed by itself.
   *
   * @throws ChannelError `invalid_name`; MoorlineError `invalid_option`. What the server says is in `store.current`
   */
  store(name: string, options?: StoreOptions): Store;

  /**
   * Publishes something that may be lost, to a topic that need not be followed.
   *
   * @throws ChannelError `too_large`, `unreadable`, `invalid_name`
   */
  publish<N extends TopicName<A>>(name: N, data: MessageOf<A, N>, options: VolatileOptions): void;

  /**
   * Publishes to a topic, which need not be followed, and resolves to where the message is when the server has taken it and
   * keeps it as the topic keeps messages. While connecting it waits, as `call` does.
   *
   * @throws ChannelError `forbidden`, `no_such_channel`, `invalid_params` for a message that has not the topic's shape,
   *   `too_large`, `unreadable`, and what a call may throw
   */
  publish<N extends TopicName<A>>(
    name: N,
    ...rest: DataAndOptions<MessageOf<A, N>, PublishOptions>
  ): Promise<Position>;

  /**
   * Answers the server's calls of this name. There is one handler for a name: a second replaces it. An async generator
   * answers a call that asks for a stream, and is read as fast as the server takes its items.
   */
  handle<N extends NameIn<A, "handles">>(name: N, handler: Handler<Declared<A, "handles", N>, A>): Unsubscribe;

  /** Hears the server's notifications of this name. Any number may listen; without a listener they are dropped. */
  listen<N extends NameIn<A, "listens">>(name: N, listener: (data: Declared<A, "listens", N>) => void): Unsubscribe;

  /** Hears an event of the client itself; the present state is not told, read `status` or `session` for it. */
  on<E extends keyof ClientEvents>(event: E, listener: (value: ClientEvents[E]) => void): Unsubscribe;

  /** Counters at this moment; all zero until the wasm is loaded. */
  stats(): Stats;

  /** The server's clock at this moment, in ms since 1970; `undefined` without a session. As exact as `stats().offsetMs`. */
  serverTimeMs(): number | undefined;

  /** Asks for a fresh sample of the round trip, which `stats().rttMs` then has. Does nothing while not connected. */
  ping(): void;

  /**
   * Ends the connection politely and for good: what was sent before goes out first. What is still under way rejects; it waits
   * for nobody, handlers neither, whose `signal` aborts. In the task of `connect()` it opens no socket and loads nothing.
   * Resolves once the end is reached, in the same task; a second call gives the same promise.
   */
  close(): Promise<void>;
}

/** The function `connect` of every entry. */
export interface Connect {
  /**
   * Returns a client at once, which connects by itself after the current task.
   *
   * @param url `ws:`, `wss:`, `http:` or `https:`; in a page also relative. Default: `/moorline` of the page's origin.
   * @throws MoorlineError `invalid_url`, `invalid_option` or `invalid_server_key`, never for the network
   */
  <A extends ApiShape = UntypedApi>(url?: string | URL, options?: ConnectOptions): Client<A>;
}

/** The function `preload` of every entry. */
export interface Preload {
  /**
   * Loads and compiles the wasm before there is a client, for a faster first connection. It need not be awaited.
   *
   * @throws ConnectError `wasm_not_found`, `wasm_blocked`, `wasm_invalid`, `no_webassembly`, `timeout`
   */
  (options?: PreloadOptions): Promise<void>;
}
