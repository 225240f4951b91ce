/// <reference lib="esnext.disposable" preserve="true" />
import type {
  ApiShape, ArgumentOf, DataAndOptions, Declared, ItemOf, MessageOf, NameIn, ResultOf, TopicName, UntypedApi,
} from "./api.js";
import type { CallOptions, ConfirmedNotifyOptions, NotifyOptions, StreamOptions, WaitOptions } from "./call-types.js";
import type { Position } from "./channel-types.js";
import type { Code } from "./codes.gen.js";
import type { ConnectOptions, PreloadOptions } from "./connect-types.js";
import type { ConnectError, MoorlineError } from "./errors.js";
import type { Unsubscribe } from "./listeners.js";
import type { Store, StoreOptions } from "./store-types.js";
import type { PublishOptions, Topic, TopicOptions, VolatileOptions } from "./topic-types.js";

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

  /**
   * Tries to connect at once, where it waits before its next try: for a button, say. It does so by itself when the network is
   * back and the page is looked at. Not before the time that the server has asked for; and it does nothing while a try is under
   * way, while connected, and once closed.
   */
  reconnect(): void;

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
