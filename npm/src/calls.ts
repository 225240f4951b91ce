import { Backlog, type Submission } from "./backlog.js";
import type { Core, CoreFailure, CoreHost } from "./boundary.js";
import type { CallOptions, ConfirmedNotifyOptions, NotifyOptions, SendOptions, StreamOptions } from "./call-types.js";
import type { ChannelRequest } from "./channel.js";
import { CallError } from "./errors.js";
import { aboutChannel, fromCore } from "./failure.js";
import { checkCallOptions, checkNotifyOptions, checkStreamOptions } from "./options.js";
import type { Owner } from "./owner.js";
import { decode, encode, type Payload } from "./payload.js";
import type { Settings } from "./settings.js";
import { Settlement } from "./settlement.js";
import { ItemStream, type Sink, type Source } from "./stream.js";

/** What hears how a call goes. */
type Ongoing = Pick<Sink, "settle" | "reject"> & { item?: Sink["item"] };

/** As in limits.rs: `DEFAULT_CREDIT`. */
const DEFAULT_BUFFER = 64;

/** What a client asks of the server and tells it: what waits to be sent, and what waits for an answer. */
export class Calls {
  readonly #options: Settings;
  readonly #owner: Owner;
  readonly #backlog = new Backlog();
  readonly #ongoing = new Map<number, Ongoing>();
  readonly #confirmations = new Map<number, Settlement<void>>();
  /** Notifications sent before any server told its limit. */
  #unmeasured: { name: string; bytes: number }[] = [];
  #isMeasured = false;

  constructor(options: Settings, owner: Owner) {
    this.#options = options;
    this.#owner = owner;
  }

  async call(name: string, data?: unknown, options?: CallOptions): Promise<any> {
    const { timeoutMs, signal, idempotencyKey, offline } = checkCallOptions(options);
    checkName(name);
    const payload = encode(data);
    const settlement = this.#settlement<unknown>(`No answer to \`${name}\``, timeoutMs, signal);
    this.#ask(
      settlement, payload, offline,
      (core, { encoding, body }) => core.call(name, encoding, body, settlement.remainingMs, idempotencyKey),
      (answer) => answer && decode(answer.encoding, answer.body),
    );
    return settlement.promise;
  }

  /** Has something done in a channel, which waits and settles as a call does. */
  async request(request: ChannelRequest): Promise<Payload | undefined> {
    const { kind, what, name, target, count = 0, payload, options } = request;
    const { timeoutMs, signal, idempotencyKey, offline } = options;
    const settlement = this.#settlement<Payload | undefined>(`No answer about \`${name}\``, timeoutMs, signal);
    this.#ask(
      settlement, payload, offline,
      (core, { encoding, body }) =>
        core.request(kind, what, name, target, count, encoding, body, settlement.remainingMs, idempotencyKey),
      (answer) => answer,
    );
    return settlement.promise.catch((reason) => {
      throw signal?.aborted && reason === signal.reason ? reason : aboutChannel(reason);
    });
  }

  stream(name: string, data?: unknown, options?: StreamOptions): ItemStream {
    const { timeoutMs, signal, buffer = DEFAULT_BUFFER, offline } = checkStreamOptions(options);
    checkName(name);
    const { encoding, body } = encode(data);
    // A copy, because nothing is sent before the first item is asked for.
    const payload = { encoding, body: new Uint8Array(body) };
    return new ItemStream(buffer, (sink): Source => {
      let calling: { core: Core; id: number } | undefined;
      const cancel = (): void => {
        if (calling && this.#ongoing.delete(calling.id)) calling.core.cancel(calling.id);
      };
      // It stands for the whole stream, until the end is read, although its time ends with the first item.
      const settlement = this.#settlement<void>(`No item of \`${name}\``, timeoutMs, signal);
      settlement.promise.catch((reason) => sink.abort(reason));
      this.#await(settlement, payload, offline, (core, { encoding, body }) => {
        const id = core.call(name, encoding, body, settlement.remainingMs, undefined, buffer);
        settlement.stopClock();
        calling = { core, id };
        this.#ongoing.set(id, {
          item: (item) => sink.item(item),
          settle: (answer) => sink.settle(answer),
          reject: (reason) => sink.reject(reason),
        });
        settlement.onAbandoned = cancel;
      });
      return {
        grant: (more) => { if (calling && this.#ongoing.has(calling.id)) calling.core.grant(calling.id, more); },
        // Before it is sent, giving up takes it out of the backlog.
        cancel: () => (settlement.abandon(), cancel()),
      };
    });
  }

  notify(name: string, data?: unknown, options?: NotifyOptions | ConfirmedNotifyOptions): Promise<void> | void {
    if (options?.acknowledged) return this.#notifyConfirmed(name, data, options);
    const { volatile = false, offline } = checkNotifyOptions(options);
    checkName(name);
    const payload = encode(data);
    if (volatile) return this.#notifyVolatile(name, payload);
    this.#submit({
      payload,
      mayWait: false,
      send: (core, { encoding, body }) => {
        core.notify(name, encoding, body, false);
        if (!this.#isMeasured) this.#unmeasured.push({ name, bytes: body.length });
      },
      // Nobody waits for it. That the client closed is no news, anything else is.
      drop: (reason) => { if ((reason as CallError).code !== "closed") this.#owner.report(reason as CallError); },
    }, offline);
  }

  /** It overtakes what waits for room, and where it cannot go out at once it is dropped. */
  #notifyVolatile(name: string, { encoding, body }: Payload): void {
    try {
      this.#owner.core()?.notify(name, encoding, body, true);
    } catch (failure) {
      throw fromCore(CallError, failure);
    }
  }

  async #notifyConfirmed(name: string, data: unknown, options: ConfirmedNotifyOptions): Promise<void> {
    const { timeoutMs, signal, offline } = checkNotifyOptions(options);
    checkName(name);
    const payload = encode(data);
    const settlement = this.#settlement<void>(`\`${name}\` was not confirmed`, timeoutMs, signal);
    this.#await(settlement, payload, offline, (core, { encoding, body }) => {
      const receipt = core.notifyConfirmed(name, encoding, body);
      this.#confirmations.set(receipt, settlement);
      settlement.onAbandoned = () => void this.#confirmations.delete(receipt);
    });
    return settlement.promise;
  }

  /** Sends what waits, as far as the core has room. */
  flush(core: Core): void {
    this.#backlog.flush(core);
  }

  /** A server has told how much it takes. The core has taken out what waited and is larger. */
  learn(maxMessage: number): void {
    for (const { name, bytes } of this.#unmeasured) {
      if (bytes > maxMessage) this.#owner.report(new CallError("too_large", `The server takes no notification as large as \`${name}\``));
    }
    this.#unmeasured = [];
    this.#isMeasured = true;
  }

  /** The session was lost. @param receipt of a notification, if it has one */
  lose(receipt: number, name: string): void {
    this.#confirmed(receipt)?.reject(new CallError("unknown", `The session was lost before the server confirmed \`${name}\``));
  }

  /** Nothing more is sent. */
  clear(reason: Error): void {
    this.#backlog.clear(reason);
  }

  /** Nothing more is answered. */
  end(reason: Error): void {
    for (const ongoing of this.#ongoing.values()) ongoing.reject(reason);
    this.#ongoing.clear();
    for (const settlement of this.#confirmations.values()) settlement.reject(reason);
    this.#confirmations.clear();
  }

  /** What the core tells of them. */
  readonly callbacks = {
    onConfirmed: (receipt) => this.#confirmed(receipt)?.resolve(),
    onRefused: (receipt, failure) => this.#confirmed(receipt)?.reject(fromCore(CallError, failure)),
    onSettled: (id, ok, encoding, body, failure) => this.#onSettled(id, ok, body && { encoding, body }, failure),
    onItem: (id, encoding, body) => this.#ongoing.get(id)?.item?.({ encoding, body }),
  } satisfies Partial<CoreHost>;

  /** What waits for this receipt, which nobody hears of again. */
  #confirmed(receipt: number): Settlement<void> | undefined {
    const settlement = this.#confirmations.get(receipt);
    this.#confirmations.delete(receipt);
    return settlement;
  }

  /** @param what is to be told when the time is over */
  #settlement<T>(what: string, timeoutMs = this.#options.callTimeoutMs, signal: AbortSignal | undefined): Settlement<T> {
    signal?.throwIfAborted();
    return new Settlement<T>({
      timeoutMs,
      signal,
      timedOut: () => this.#owner.timeout(CallError, `${what} within ${timeoutMs} ms`),
    });
  }

  /** Sends what `settlement` stands for. Until then it may wait, and being given up takes it back. */
  #await(
    settlement: Settlement<any>, payload: Payload, offline: SendOptions["offline"], send: Submission["send"],
  ): void {
    const submission: Submission = { payload, mayWait: true, send, drop: (reason) => settlement.reject(reason) };
    settlement.onAbandoned = () => this.#backlog.remove(submission);
    try {
      this.#submit(submission, offline);
    } catch (error) {
      settlement.reject(error);
    }
  }

  /** {@link #await} for what is answered. @param send gives the number that the answer will have */
  #ask<T>(
    settlement: Settlement<T>, payload: Payload, offline: SendOptions["offline"],
    send: (core: Core, payload: Payload) => number, read: (answer: Payload | undefined) => any,
  ): void {
    this.#await(settlement, payload, offline, (core, payload) => {
      const id = send(core, payload);
      settlement.stopClock();
      this.#ongoing.set(id, {
        settle: (answer) => settlement.resolve(read(answer)),
        reject: (reason) => settlement.reject(reason),
      });
      settlement.onAbandoned = () => {
        if (this.#ongoing.delete(id)) core.cancel(id);
      };
    });
  }

  #onSettled(id: number, ok: boolean, payload: Payload | undefined, failure: CoreFailure | undefined): void {
    const ongoing = this.#ongoing.get(id);
    this.#ongoing.delete(id);
    if (!ok) {
      const isLocalTimeout = failure?.code === "timeout" && this.#owner.status().status !== "connected";
      const error = isLocalTimeout ? this.#owner.timeout(CallError, "No answer in time") : fromCore(CallError, failure);
      return ongoing?.reject(error);
    }
    try {
      ongoing?.settle(payload);
    } catch (unreadable) {
      ongoing?.reject(unreadable);
    }
  }

  #submit(submission: Submission, offline = this.#options.offline): void {
    const [ended, core] = [this.#owner.ended(), this.#owner.core()];
    if (ended) throw ended;
    if (offline === "fail" && this.#owner.status().status !== "connected") throw this.#offlineError();
    if (!core || !this.#backlog.isEmpty) return this.#backlog.add(submission);
    try {
      this.#backlog.send(core, submission);
    } catch (failure) {
      throw fromCore(CallError, failure);
    }
  }

  #offlineError(): CallError {
    const cause = this.#owner.status().error;
    return new CallError("connection_lost", "Not connected", { cause, remedy: cause?.remedy });
  }
}

// The rest of the rule (length, control characters) is the core's; this keeps other types away from it.
export function checkName(name: unknown): void {
  if (typeof name !== "string" || name === "") throw new CallError("invalid_name");
}
