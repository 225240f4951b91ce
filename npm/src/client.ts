import type { Core, CoreClass, CoreFailure, CoreHost, Encoding, SessionInfo, StatusEvent } from "./boundary.js";
import type { CallOptions, ConfirmedNotifyOptions, NotifyOptions, StreamOptions, WaitOptions } from "./call-types.js";
import { Calls, checkName } from "./calls.js";
import { Channels } from "./channel.js";
import type { Position } from "./channel-types.js";
import type {
  AuthenticateOptions, Client, ClientEvents, Identity, Reset, Session, Stats, Status, Unconfirmed,
} from "./client-types.js";
import type { WebSocketClass } from "./connect-types.js";
import { discover } from "./discovery.js";
import { CallError, ChannelError, ConnectError, MoorlineError } from "./errors.js";
import { fromCore } from "./failure.js";
import { Handlers } from "./handlers.js";
import { Listeners, NamedListeners, type Unsubscribe } from "./listeners.js";
import { checkReadyOptions, unknownName } from "./options.js";
import type { Owner } from "./owner.js";
import { followPage } from "./page.js";
import { decode } from "./payload.js";
import type { Settings } from "./settings.js";
import { Settlement } from "./settlement.js";
import { SignIn } from "./sign-in.js";
import { openStore, type LiveStore } from "./store.js";
import type { StoreOptions } from "./store-types.js";
import type { ItemStream } from "./stream.js";
import { openTopic, publish, type LiveTopic } from "./topic.js";
import type { PublishOptions, TopicOptions, VolatileOptions } from "./topic-types.js";

/** What a client needs from around it; tests pass their own. */
export interface Environment {
  /** @throws ConnectError `no_websocket` */
  findWebSocket(): Promise<WebSocketClass>;
  /** @throws ConnectError as `compile` in `wasm.ts` */
  loadCore(): Promise<CoreClass>;
}

/** The life of a client. Each stage owns what exists only in it. */
type Stage =
  /** There is no core yet. `skipPause` ends the pause before the next try to load it. */
  | { at: "loading"; skipPause?: () => void }
  | { at: "running"; core: Core }
  /** `close()` was called, the core says goodbye. */
  | { at: "closing"; core: Core }
  /** The core is still there until it has returned from the call that ended it. */
  | { at: "closed"; core?: Core };

const NO_STATS: Stats = Object.freeze({ bytesSent: 0, bytesReceived: 0, buffered: 0 });

/** The implementation of `Client`. It settles, listens and translates; what the protocol decides, the core decides. */
export class MoorlineClient implements Client {
  #stage: Stage = { at: "loading" };
  #status: Status = Object.freeze({ status: "connecting", attempt: 1, retryInMs: undefined, error: undefined });
  #session: Session | undefined;
  #lastStats = NO_STATS;
  /** Tries that failed before there was a core to count them. */
  #failedLoads = 0;

  /** `performance.now()` when the session was told. */
  #welcomedAt = 0;

  readonly #options: Settings;
  readonly #environment: Environment;
  readonly #opening: ReturnType<typeof setTimeout>;
  readonly #unfollowPage: Unsubscribe;
  readonly #ended: Promise<void>;
  #end!: () => void;

  readonly #signIn: SignIn;
  readonly #calls: Calls;
  readonly #ownerChanges = new Listeners<void>();
  readonly #channels: Channels;
  readonly #handlers = new Handlers((error) => this.#report(error));
  readonly #messages = new NamedListeners<unknown>();
  readonly #events: { readonly [E in keyof ClientEvents]: Listeners<ClientEvents[E]> } = {
    status: new Listeners(),
    session: new Listeners(),
    identity: new Listeners(),
    warning: new Listeners(),
    reset: new Listeners(),
    goaway: new Listeners(),
    error: new Listeners(),
  };

  declare [Symbol.dispose]: () => void;
  declare [Symbol.asyncDispose]: () => Promise<void>;
  static {
    // Not as methods: where a browser lacks these symbols, they would be called "undefined".
    if (Symbol.dispose) this.prototype[Symbol.dispose] = function () { void this.close(); };
    if (Symbol.asyncDispose) this.prototype[Symbol.asyncDispose] = function () { return this.close(); };
  }

  constructor(options: Settings, environment: Environment) {
    this.#options = options;
    this.#environment = environment;
    const owner: Owner = {
      core: () => (this.#stage.at === "running" ? this.#stage.core : undefined),
      ended: () => (this.#stage.at === "closing" || this.#stage.at === "closed" ? this.#closedError() : undefined),
      status: () => this.#status,
      timeout: (Class, message) => this.#timeout(Class, message),
      report: (error) => this.#report(error),
    };
    this.#calls = new Calls(options, owner);
    this.#signIn = new SignIn(options, {
      ...owner,
      ownerChanged: () => this.#ownerChanges.emit(),
      told: (identity) => this.#events.identity.emit(identity),
    });
    this.#channels = new Channels({
      ...owner,
      me: () => this.#session?.member,
      server: () => options.url,
      owner: () => this.#signIn.owner,
      ownerChanges: this.#ownerChanges,
      request: (request) => this.#calls.request(request),
    });
    this.#ended = new Promise((resolve) => (this.#end = resolve));
    // In a task of its own: who closes within the opening one (React's StrictMode does) pays for neither socket nor wasm.
    this.#opening = setTimeout(() => void this.#open(), 0);
    this.#unfollowPage = followPage({ wake: () => this.#wake(), leave: () => void this.close() });
  }

  get status(): Status {
    return this.#status;
  }

  get session(): Session | undefined {
    return this.#session;
  }

  get identity(): Identity | undefined {
    return this.#signIn.identity;
  }

  authenticate(options: AuthenticateOptions): Promise<Identity> {
    return this.#signIn.authenticate(options);
  }

  async ready(options?: WaitOptions): Promise<Session> {
    const { timeoutMs = Infinity, signal } = checkReadyOptions(options);
    const timedOut = (): MoorlineError => this.#timeout(ConnectError, `Not connected within ${timeoutMs} ms`);
    const settlement = new Settlement<Session>({ timeoutMs, signal, timedOut });
    const follow = ({ status, error }: Status): void => {
      if (status === "connected") settlement.resolve(this.#session!);
      if (status === "closed") settlement.reject(error ?? new ConnectError("closed"));
    };
    follow(this.#status);
    const unfollow = this.#events.status.add(follow);
    return settlement.promise.finally(unfollow);
  }

  call(name: string, data?: unknown, options?: CallOptions): Promise<any> {
    return this.#calls.call(name, data, options);
  }

  stream(name: string, data?: unknown, options?: StreamOptions): ItemStream {
    return this.#calls.stream(name, data, options);
  }

  notify(name: string, data: unknown, options: ConfirmedNotifyOptions): Promise<void>;
  notify(name: string, data?: unknown, options?: NotifyOptions): void;
  notify(name: string, data?: unknown, options?: NotifyOptions | ConfirmedNotifyOptions): Promise<void> | void {
    return this.#calls.notify(name, data, options);
  }

  topic(name: string, options?: TopicOptions): LiveTopic {
    return openTopic(this.#channels, name, options);
  }

  store(name: string, options?: StoreOptions): LiveStore {
    return openStore(this.#channels, name, options);
  }

  publish(name: string, data: unknown, options: VolatileOptions): void;
  publish(name: string, data?: unknown, options?: PublishOptions): Promise<Position>;
  publish(name: string, data?: unknown, options?: PublishOptions | VolatileOptions): Promise<Position> | void {
    return publish(this.#channels.host, name, data, options);
  }

  handle(name: string, handler: (data: any, context: any) => unknown): Unsubscribe {
    checkName(name);
    return this.#handlers.set(name, (data, { signal }) => handler(data, { signal, client: this }));
  }

  listen(name: string, listener: (data: any) => void): Unsubscribe {
    checkName(name);
    return this.#messages.add(name, listener);
  }

  on<E extends keyof ClientEvents>(event: E, listener: (value: ClientEvents[E]) => void): Unsubscribe {
    if (!Object.hasOwn(this.#events, event)) throw unknownName("event of client.on()", event, Object.keys(this.#events));
    return this.#events[event].add(listener);
  }

  stats(): Stats {
    const core = coreOf(this.#stage);
    return core ? this.#statsOf(core) : this.#lastStats;
  }

  serverTimeMs(): number | undefined {
    const core = coreOf(this.#stage);
    return core && this.#serverTime(core.stats().rttMs);
  }

  #statsOf(core: Core): Stats {
    const stats = core.stats();
    const serverTime = this.#serverTime(stats.rttMs);
    return { ...stats, offsetMs: serverTime && serverTime - Date.now() };
  }

  /** Welcome's time was written half a round trip before it came. Since then this page's steady clock has run. */
  #serverTime(rttMs = 0): number | undefined {
    return this.#session && this.#session.serverTimeMs + rttMs / 2 + performance.now() - this.#welcomedAt;
  }

  reconnect(): void {
    this.#wake();
  }

  ping(): void {
    if (this.#stage.at === "running") this.#stage.core.ping();
  }

  close(): Promise<void> {
    if (this.#stage.at === "loading") this.#finish();
    if (this.#stage.at === "running") {
      const { core } = this.#stage;
      this.#stage = { at: "closing", core };
      this.#calls.clear(this.#closedError());
      core.close();
    }
    return this.#ended;
  }

  async #open(): Promise<void> {
    while (this.#stage.at === "loading") {
      try {
        const WebSocket = await this.#environment.findWebSocket();
        const Core = await this.#environment.loadCore();
        if (this.#stage.at === "loading") this.#run(new Core(this.#options, this.#host(WebSocket)));
      } catch (thrown) {
        await this.#afterFailedLoad(fromCore(ConnectError, thrown));
      }
    }
  }

  #run(core: Core): void {
    this.#stage = { at: "running", core };
    this.#signIn.show();
    core.start();
    // Before what waits: who publishes to a topic hears it there.
    this.#channels.start();
    this.#calls.flush(core);
  }

  async #afterFailedLoad(error: ConnectError): Promise<void> {
    if (this.#stage.at === "closed") return;
    if (!error.retryable || !this.#options.reconnect) return this.#finish(error);
    const { reconnectBaseMs, reconnectMaxMs } = this.#options;
    // The core's own rule (backoff.rs): full jitter below a doubling bound.
    const retryInMs = Math.round(Math.random() * Math.min(reconnectMaxMs, reconnectBaseMs * 2 ** this.#failedLoads));
    const attempt = ++this.#failedLoads + 1;
    const pause = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, retryInMs);
      this.#stage = { at: "loading", skipPause: () => (clearTimeout(timer), resolve()) };
    });
    this.#setStatus({ status: "connecting", attempt, retryInMs, error });
    await pause;
    if (this.#stage.at === "loading") this.#setStatus({ status: "connecting", attempt, retryInMs: undefined, error });
  }

  /** What the core may ask of this page and tell it. */
  #host(WebSocket: WebSocketClass): CoreHost {
    const { connectTimeoutMs } = this.#options;
    return {
      openSocket: (url, protocols) => new WebSocket(url, protocols),
      discover: async (ticket, url) => {
        const result = await discover(url, connectTimeoutMs);
        if (this.#stage.at === "running") this.#stage.core.discovered(ticket, result);
      },
      authorize: (ticket, attempt, reason) => void this.#signIn.authorize(ticket, attempt, reason),
      onAuthenticated: (id, admission, failure) => this.#signIn.onAuthenticated(id, admission, failure),
      onWarning: ({ code, message }) => this.#events.warning.emit(Object.freeze({ code, message })),
      onStatus: (event) => this.#onStatus(event),
      onSession: (info) => this.#onSession(info),
      onReset: (reason, unconfirmed) => this.#onReset(reason, unconfirmed),
      onRoom: () => {
        if (this.#stage.at === "running") this.#calls.flush(this.#stage.core);
        this.#handlers.wake();
      },
      onCall: (id, name, encoding, body, isStream) => {
        if (this.#stage.at === "running") void this.#handlers.answer(this.#stage.core, id, name, encoding, body, isStream);
      },
      onCancelled: (id) => this.#handlers.cancel(id),
      onCredit: (id) => this.#handlers.wake(id),
      onMessage: (name, encoding, body) => this.#onMessage(name, encoding, body),
      ...this.#calls.callbacks,
      ...this.#channels.callbacks,
    };
  }

  #onStatus({ status, attempt, retryInMs, error: failure }: StatusEvent): void {
    const told = failure && this.#connectError(failure);
    // Only what the server sealed has a reference, and from an established connection that is its good-bye.
    if (told?.ref !== undefined && this.#status.status === "connected" && status !== "connected") {
      const { code, message } = told;
      this.#events.goaway.emit(Object.freeze({ code, message, retryAfterMs: failure?.retryAfterMs }));
    }
    if (status === "closed") return this.#finish(told);
    if (status === "connecting") this.#channels.disconnected();
    // A new try does not unsay why the last one failed; people read it longer than a try takes.
    const error = status === "connecting" ? told ?? this.#status.error : undefined;
    this.#setStatus({ status, attempt: attempt + this.#failedLoads, retryInMs, error });
    if (status === "connected") this.#failedLoads = 0;
  }

  /** With what the token provider threw, where that is the cause. */
  #connectError(failure: CoreFailure): MoorlineError {
    return failure.code === "credentials_unavailable" ? this.#signIn.unavailable() : fromCore(ConnectError, failure);
  }

  #onSession({ admission, ...info }: SessionInfo): void {
    this.#welcomedAt = performance.now();
    this.#signIn.admitted(admission);
    this.#session = Object.freeze({
      ...info,
      encryption: Object.freeze(info.encryption),
      limits: Object.freeze(info.limits),
    });
    this.#calls.learn(info.limits.maxMessage);
    this.#events.session.emit(this.#session);
  }

  #onReset(reason: Reset["reason"], flat: (string | number)[]): void {
    const unconfirmed: Unconfirmed[] = [];
    for (let at = 0; at < flat.length; at += 2) {
      const [name, number] = [flat[at] as string, flat[at + 1] as number];
      unconfirmed.push(Object.freeze({ kind: number < 0 ? "call" : "notify", name }));
      this.#calls.lose(number, name);
    }
    this.#events.reset.emit(Object.freeze({ reason, unconfirmed: Object.freeze(unconfirmed) }));
  }

  #onMessage(name: string, encoding: Encoding, body: Uint8Array): void {
    const listeners = this.#messages.of(name);
    if (!listeners) return;
    try {
      // One value for all of them, as with any event.
      listeners.emit(decode(encoding, body));
    } catch (unreadable) {
      this.#report(fromCore(CallError, unreadable));
    }
  }

  #setStatus(status: Status): void {
    this.#status = Object.freeze(status);
    this.#signIn.show();
    this.#events.status.emit(this.#status);
  }

  #wake(): void {
    if (this.#stage.at === "loading") this.#stage.skipPause?.();
    if (this.#stage.at === "running") this.#stage.core.retryNow();
  }

  #report(error: MoorlineError): void {
    if (this.#events.error.isEmpty) console.error(error);
    else this.#events.error.emit(error);
  }

  /** A timeout, which while not connected has a cause that says more. */
  #timeout(Class: typeof CallError | typeof ChannelError | typeof ConnectError, message: string): MoorlineError {
    const cause = this.#status.error;
    return new Class("timeout", cause ? `${message}: ${cause.message}` : message, { cause, remedy: cause?.remedy });
  }

  #closedError(cause = this.#status.error): CallError {
    const message = cause && `The client is closed: ${cause.message}`;
    return new CallError("closed", message, { cause, remedy: cause?.remedy });
  }

  /** The one way into the stage "closed". */
  #finish(error?: ConnectError): void {
    const stage = this.#stage;
    if (stage.at === "closed") return;
    const core = coreOf(stage);
    this.#stage = { at: "closed", ...(core && { core }) };
    clearTimeout(this.#opening);
    this.#unfollowPage();
    if (stage.at === "loading") stage.skipPause?.();
    const reason = this.#closedError(error);
    this.#calls.clear(reason);
    this.#signIn.stop();
    this.#handlers.cancelAll();
    this.#setStatus({ status: "closed", attempt: this.#status.attempt, retryInMs: undefined, error });
    this.#channels.end(error);
    // This may run within a call of the core's: what that still settles comes first, and only then may the core be freed.
    queueMicrotask(() => {
      this.#calls.end(reason);
      this.#signIn.end(reason);
      this.#end();
      if (!core) return;
      this.#lastStats = this.#statsOf(core);
      this.#stage = { at: "closed" };
      core.free();
    });
  }
}

function coreOf(stage: Stage): Core | undefined {
  return "core" in stage ? stage.core : undefined;
}
