import { Backlog, type Submission } from "./backlog.js";
import type { Core, CoreClass, CoreFailure, CoreHost, CoreOptions, Encoding, StatusEvent } from "./boundary.js";
import { discover } from "./discovery.js";
import { CallError, ConnectError, MoorlineError } from "./errors.js";
import { fromCore } from "./failure.js";
import { Handlers, type AnyHandler } from "./handlers.js";
import { Listeners, type Unsubscribe } from "./listeners.js";
import { checkCallOptions, checkNotifyOptions, checkReadyOptions, unknownName } from "./options.js";
import { followPage } from "./page.js";
import { decode, encode } from "./payload.js";
import { Settlement } from "./settlement.js";
import type {
  CallOptions, Client, ClientEvents, NotifyOptions, Session, Stats, Status, WaitOptions, WebSocketClass,
} from "./types.js";

/** What a client needs from around it; tests pass their own. */
export interface Environment {
  /** @throws ConnectError of the wasm, see `wasm.ts` */
  loadCore(): Promise<CoreClass>;
  /** @throws ConnectError `no_websocket` */
  findWebSocket(): Promise<WebSocketClass>;
}

/** The life of a client. Each stage owns what exists only in it. */
type Stage =
  /** The wasm is not there yet. `skipWait` ends the pause before the next try to load it. */
  | { at: "loading"; skipWait?: () => void }
  | { at: "running"; core: Core }
  /** `close()` was called; the core says goodbye. */
  | { at: "closing"; core: Core }
  | { at: "closed" };

/** The implementation of `Client`: settles, listens and translates. What the protocol decides, the core decides. */
export class MoorlineClient implements Client {
  #stage: Stage = { at: "loading" };
  #status: Status = Object.freeze({ status: "connecting", attempt: 1, retryInMs: undefined, error: undefined });
  #session: Session | undefined;
  /** Tries that failed before there was a core to count them. */
  #failedLoads = 0;

  readonly #options: CoreOptions;
  readonly #environment: Environment;
  readonly #backlog = new Backlog();
  readonly #calls = new Map<number, Settlement<unknown>>();
  readonly #messages = new Map<string, Listeners<unknown>>();
  readonly #events: { readonly [E in keyof ClientEvents]: Listeners<ClientEvents[E]> } = {
    status: new Listeners(),
    session: new Listeners(),
    error: new Listeners(),
  };
  readonly #handlers = new Handlers((error) => this.#report(error));
  readonly #opening: ReturnType<typeof setTimeout>;
  readonly #unfollowPage: Unsubscribe;
  readonly #ended: Promise<void>;
  #end!: () => void;

  static {
    // Browsers that lack these symbols would get methods named "undefined".
    if (Symbol.dispose) this.prototype[Symbol.dispose] = function () { void this.close(); };
    if (Symbol.asyncDispose) this.prototype[Symbol.asyncDispose] = function () { return this.close(); };
  }
  declare [Symbol.dispose]: () => void;
  declare [Symbol.asyncDispose]: () => Promise<void>;

  constructor(options: CoreOptions, environment: Environment) {
    this.#options = options;
    this.#environment = environment;
    this.#ended = new Promise((resolve) => (this.#end = resolve));
    // A task of its own: whoever closes in the opening task (React's StrictMode does) costs neither socket nor wasm.
    this.#opening = setTimeout(() => void this.#open(), 0);
    this.#unfollowPage = followPage({ wake: () => this.#wake(), leave: () => void this.close() });
  }

  get status(): Status {
    return this.#status;
  }

  get session(): Session | undefined {
    return this.#session;
  }

  async ready(options?: WaitOptions): Promise<Session> {
    const { timeoutMs = Infinity, signal } = checkReadyOptions(options);
    const settlement = new Settlement<Session>({ timeoutMs, signal, timedOut: () => this.#notReadyIn(timeoutMs) });
    const check = ({ status, error }: Status): void => {
      if (status === "connected") settlement.resolve(this.#session!);
      if (status === "closed") settlement.reject(error ?? new ConnectError("closed"));
    };
    check(this.#status);
    const unsubscribe = this.#events.status.add(check);
    return settlement.promise.finally(unsubscribe);
  }

  async call(name: string, data?: unknown, options?: CallOptions): Promise<any> {
    const { timeoutMs = this.#options.callTimeoutMs, signal } = checkCallOptions(options);
    const { encoding, body } = encode(data);
    const settlement = new Settlement<unknown>({
      timeoutMs,
      signal,
      timedOut: () => new CallError("timeout", `No answer to \`${name}\` within ${timeoutMs} ms`),
    });
    if (settlement.isOpen) {
      const submission = this.#submit({
        size: body.length,
        send: (core) => this.#sendCall(core, settlement, name, encoding, body),
        drop: (reason) => settlement.reject(reason),
      }, settlement);
    }
    return settlement.promise;
  }
}
