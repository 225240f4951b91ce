import { isBackpressure } from "./backlog.js";
import type { Core, Encoding } from "./boundary.js";
import { codes } from "./codes.gen.js";
import { CallError, MoorlineError } from "./errors.js";
import { fromCore } from "./failure.js";
import type { Unsubscribe } from "./listeners.js";
import { decode, encode } from "./payload.js";

/** A handler, whatever its types. */
export type AnyHandler = (data: unknown, context: { signal: AbortSignal }) => unknown;

/** A call of the server's that is being answered. */
interface Running {
  abort: AbortController;
  /** Goes on with a stream that had no room. */
  wake?: () => void;
}

/** The page's handlers, and the server's calls that they are answering. */
export class Handlers {
  readonly #handlers = new Map<string, AnyHandler>();
  readonly #running = new Map<number, Running>();
  readonly #report: (error: MoorlineError) => void;

  constructor(report: (error: MoorlineError) => void) {
    this.#report = report;
  }

  set(name: string, handler: AnyHandler): Unsubscribe {
    // A wrapper, so that removing an earlier registration of the same function leaves the later one.
    const registered: AnyHandler = (data, context) => handler(data, context);
    this.#handlers.set(name, registered);
    return () => {
      if (this.#handlers.get(name) === registered) this.#handlers.delete(name);
    };
  }

  /** Runs the handler and answers once, unless the server gives up before. Never rejects. */
  async answer(
    core: Core, id: number, name: string, encoding: Encoding, body: Uint8Array, isStream: boolean,
  ): Promise<void> {
    const running: Running = { abort: new AbortController() };
    const { signal } = running.abort;
    this.#running.set(id, running);
    const pour = isStream ? (items: AsyncIterable<unknown>) => this.#pour(core, id, items, running) : undefined;
    const send = await this.#run(name, encoding, body, signal, pour);
    if (signal.aborted) return;
    this.#running.delete(id);
    try {
      send(core, id);
    } catch (failure) {
      // Too large. The core has told the server; here it is the author of the handler who should know.
      this.#report(fromCore(CallError, failure));
    }
  }

  /** The server no longer waits for this call. */
  cancel(id: number): void {
    const running = this.#running.get(id);
    this.#running.delete(id);
    running?.abort.abort(new CallError("cancelled"));
    running?.wake?.();
  }

  /** There may be room for items: of this stream, or of any. */
  wake(id?: number): void {
    const awake = id === undefined ? [...this.#running.values()] : [this.#running.get(id)];
    for (const running of awake) running?.wake?.();
  }

  /** The client has ended: nothing can be answered any more. */
  cancelAll(): void {
    for (const id of this.#running.keys()) this.cancel(id);
  }

  /** Sends the items as the server takes them. */
  async #pour(core: Core, id: number, items: AsyncIterable<unknown>, running: Running): Promise<void> {
    const { signal } = running.abort;
    for await (const item of items) {
      const { encoding, body } = encode(item);
      for (;;) {
        if (signal.aborted) return;
        try {
          core.item(id, encoding, body);
          break;
        } catch (failure) {
          if (!isBackpressure(failure)) throw fromCore(CallError, failure);
        }
        await new Promise<void>((resolve) => (running.wake = resolve));
      }
    }
  }

  async #run(
    name: string, encoding: Encoding, body: Uint8Array, signal: AbortSignal,
    pour: ((items: AsyncIterable<unknown>) => Promise<void>) | undefined,
  ): Promise<Answer> {
    try {
      const handler = this.#handlers.get(name);
      if (!handler) throw new CallError("not_found", `This client has no handler \`${name}\``);
      const returned = await handler(decode(encoding, body), { signal });
      if (isAsyncIterable(returned)) {
        if (!pour) throw new Error("it gives a stream, and the server asked for one answer");
        await pour(returned);
        return (core, id) => core.end(id);
      }
      const result = encode(returned);
      return (core, id) => core.reply(id, result.encoding, result.body);
    } catch (thrown) {
      return failure(thrown, (cause) => {
        if (signal.aborted) return;
        this.#report(new CallError("internal", `The handler \`${name}\` failed: ${cause}`, { cause }));
      });
    }
  }
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

/** How a call is answered, once it is known. */
type Answer = (core: Core, id: number) => void;

/** The answer to give for what a handler threw. What the server may not read goes to `report`. */
function failure(thrown: unknown, report: (unexpected: unknown) => void): Answer {
  try {
    if (!MoorlineError.is(thrown)) throw thrown;
    const { code, message } = thrown;
    const data = thrown.data === undefined ? undefined : encode(thrown.data);
    return (core, id) => core.fail(id, code, message, data?.encoding, data?.body);
  } catch (unexpected) {
    report(unexpected);
    // Without its text, which may tell what the server must not know.
    return (core, id) => core.fail(id, "internal", codes.internal.text);
  }
}
