import { decode, type Payload } from "./payload.js";

/** Where the items of a stream come from. */
export interface Source {
  /** Takes more items. */
  grant(more: number): void;
  /** Nobody wants more: of one that is over, too. */
  cancel(): void;
}

/** What a source may do to its stream. */
export interface Sink {
  item(payload: Payload): void;
  /** `payload` is the answer of a handler that gives one answer and no stream: the one item there is. */
  settle(payload: Payload | undefined): void;
  /** It ends with an error, which comes after the items. */
  reject(error: unknown): void;
  /** Who reads gave up: nothing more is read. */
  abort(reason: unknown): void;
}

interface Reader {
  resolve(result: IteratorResult<any, undefined>): void;
  reject(reason: unknown): void;
}

type End = { error?: unknown };

/**
 * Items of a server's handler, as many ahead as were asked for. The source is opened by the first `next()`, so that a
 * stream that nobody reads costs nothing.
 */
export class ItemStream implements AsyncIterableIterator<any, undefined> {
  readonly #open: (sink: Sink) => Source;
  /** Items are granted in halves of the buffer: neither one by one nor when it has run dry. */
  readonly #batch: number;
  readonly #items: Payload[] = [];
  readonly #readers: Reader[] = [];
  #source: Source | undefined;
  #end: End | undefined;
  #taken = 0;

  constructor(buffer: number, open: (sink: Sink) => Source) {
    this.#open = open;
    this.#batch = Math.ceil(buffer / 2);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<any, undefined>> {
    const next = new Promise<IteratorResult<any, undefined>>((resolve, reject) => this.#readers.push({ resolve, reject }));
    if (!this.#source && !this.#end) this.#begin();
    this.#serve();
    return next;
  }

  /** Leaving a loop comes here. */
  async return(): Promise<IteratorResult<any, undefined>> {
    this.#stop({});
    return { value: undefined, done: true };
  }

  #begin(): void {
    try {
      this.#source = this.#open({
        item: (payload) => this.#add(payload),
        settle: (payload) => {
          if (payload) this.#add(payload);
          this.#finish({});
        },
        reject: (error) => this.#finish({ error }),
        abort: (error) => this.#stop({ error }),
      });
    } catch (error) {
      this.#finish({ error });
    }
  }

  #add(payload: Payload): void {
    if (this.#end) return;
    this.#items.push(payload);
    this.#serve();
  }

  /** What has come is still to be read. */
  #finish(end: End): void {
    this.#end ??= end;
    this.#serve();
  }

  /** Nothing is to be read any more. */
  #stop(end: End): void {
    this.#items.length = 0;
    this.#source?.cancel();
    this.#end = end;
    this.#serve();
  }

  #serve(): void {
    while (this.#readers.length > 0) {
      const payload = this.#items.shift();
      if (!payload && !this.#end) return;
      const reader = this.#readers.shift()!;
      if (payload) this.#hand(payload, reader);
      else this.#tellEnd(reader);
    }
  }

  #hand({ encoding, body }: Payload, reader: Reader): void {
    let value: unknown;
    try {
      value = decode(encoding, body);
    } catch (unreadable) {
      this.#stop({});
      return reader.reject(unreadable);
    }
    reader.resolve({ value, done: false });
    if (++this.#taken < this.#batch || this.#end) return;
    this.#source?.grant(this.#taken);
    this.#taken = 0;
  }

  /** An error is thrown once; afterwards the iterator is just done. */
  #tellEnd(reader: Reader): void {
    const end = this.#end!;
    this.#end = {};
    this.#source?.cancel();
    if ("error" in end) reader.reject(end.error);
    else reader.resolve({ value: undefined, done: true });
  }
}
