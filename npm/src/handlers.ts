import type { Core, Encoding } from "./boundary.js";
import { codes } from "./codes.gen.js";
import { CallError, MoorlineError } from "./errors.js";
import { fromCore } from "./failure.js";
import type { Unsubscribe } from "./listeners.js";
import { decode, encode, type Payload } from "./payload.js";

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

  /** Runs the handler and answers exactly once, unless the server gives up before. Never rejects. */
  async answer(core: Core, id: number, name: string, encoding: Encoding, body: Uint8Array): Promise<void> {
    const running = new AbortController();
    this.#running.set(id, running);
    try {
      const handler = this.#handlers.get(name);
      if (!handler) throw new CallError("not_found", `This client has no handler \`${name}\``);
      const result = encode(await handler(decode(encoding, body), { signal: running.signal }));
      if (!running.signal.aborted) reply(core, id, result);
    } catch (thrown) {
      if (!running.signal.aborted) this.#fail(core, id, name, thrown);
    } finally {
      this.#running.delete(id);
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

  #fail(core: Core, id: number, name: string, thrown: unknown): void {
    let unexpected = thrown;
    if (MoorlineError.is(thrown)) {
      try {
        const attached = thrown.data === undefined ? undefined : encode(thrown.data);
        core.fail(id, thrown.code, thrown.message, attached?.encoding, attached?.body);
        return;
      } catch (unsendable) {
        unexpected = unsendable;
      }
    }
    // The text of an unexpected error stays here: it may tell what the server must not know.
    core.fail(id, "internal", codes.internal.text);
    this.#report(new CallError("internal", `The handler \`${name}\` failed: ${unexpected}`, { cause: unexpected }));
  }
}

function reply(core: Core, id: number, { encoding, body }: Payload): void {
  try {
    core.reply(id, encoding, body);
  } catch (failure) {
    throw fromCore(CallError, failure);
  }
}
