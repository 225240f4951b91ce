import type { Core, Encoding } from "./boundary.js";
import { codes } from "./codes.gen.js";
import { CallError, MoorlineError } from "./errors.js";
import { fromCore } from "./failure.js";
import type { Unsubscribe } from "./listeners.js";
import { decode, encode } from "./payload.js";

/** A handler, whatever its types. */
export type AnyHandler = (data: unknown, context: { signal: AbortSignal }) => unknown;

/** The page's handlers, and the server's calls that they are answering. */
export class Handlers {
  readonly #handlers = new Map<string, AnyHandler>();
  readonly #running = new Map<number, AbortController>();
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
  async answer(core: Core, id: number, name: string, encoding: Encoding, body: Uint8Array): Promise<void> {
    const running = new AbortController();
    this.#running.set(id, running);
    const send = await this.#run(name, encoding, body, running.signal);
    if (running.signal.aborted) return;
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
    this.#running.get(id)?.abort(new CallError("cancelled"));
    this.#running.delete(id);
  }

  /** The client has ended: nothing can be answered any more. */
  cancelAll(): void {
    for (const id of this.#running.keys()) this.cancel(id);
  }

  async #run(name: string, encoding: Encoding, body: Uint8Array, signal: AbortSignal): Promise<Answer> {
    try {
      const handler = this.#handlers.get(name);
      if (!handler) throw new CallError("not_found", `This client has no handler \`${name}\``);
      const result = encode(await handler(decode(encoding, body), { signal }));
      return (core, id) => core.reply(id, result.encoding, result.body);
    } catch (thrown) {
      return failure(thrown, (cause) => {
        if (signal.aborted) return;
        this.#report(new CallError("internal", `The handler \`${name}\` failed: ${cause}`, { cause }));
      });
    }
  }
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
