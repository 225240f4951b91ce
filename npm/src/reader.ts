import type { GapReason, Position } from "./channel-types.js";

/** What is handed on of a channel. */
export interface Item {
  /** `undefined` for what is not kept. */
  readonly position: Position | undefined;
  readonly gap?: GapReason | undefined;
}

/** How a loop ends: at its end, or by an error. */
export type End = { error?: unknown };

/** Items that wait, at most so many. Where one was lost, the next one that is taken says so. */
export class Queue<T extends Item> {
  readonly limit: number;
  #items: (T | undefined)[] = [];
  /** How many of the items have been taken. To shift a long array would move all the others, for each. */
  #taken = 0;
  #lost: GapReason | undefined;

  constructor(limit: number) {
    this.limit = limit;
  }

  get length(): number {
    return this.#items.length - this.#taken;
  }

  /** Takes it, and if there is no room loses the oldest for it. One that is not kept anywhere makes nothing else give way. */
  push(item: T): void {
    if (this.length >= this.limit) {
      if (item.position === undefined) return;
      this.lose(this.#next()!.gap);
    }
    this.#items.push(item);
  }

  /** Something that should be next is missing. @param gap what the lost one would have said */
  lose(gap?: GapReason): void {
    this.#lost = gap ?? this.#lost ?? "overflow";
  }

  shift(): T | undefined {
    const item = this.#next();
    if (!item || !this.#lost) return item;
    const gap = item.gap ?? this.#lost;
    this.#lost = undefined;
    return Object.freeze({ ...item, gap });
  }

  clear(): void {
    this.#items = [];
    this.#taken = 0;
  }

  #next(): T | undefined {
    const item = this.#items[this.#taken];
    if (!item) return undefined;
    this.#items[this.#taken++] = undefined;
    if (this.#taken * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#taken);
      this.#taken = 0;
    }
    return item;
  }
}

interface Call<T> {
  resolve(result: IteratorResult<T, undefined>): void;
  reject(reason: unknown): void;
}

/** Who made a reader. */
export interface ReaderEvents<T extends Item> {
  /** It has given this item out, and there is room for another one. */
  gave(item: T): void;
  /** Its loop was left, before the end, and has not read these. */
  left(unread: Queue<T>): void;
}

/** One loop over a channel, with its queue. */
export class Reader<T extends Item> implements AsyncIterableIterator<T, undefined> {
  #queue: Queue<T>;
  readonly #events: ReaderEvents<T>;
  readonly #calls: Call<T>[] = [];
  #end: End | undefined;

  constructor(queue: Queue<T>, events: ReaderEvents<T>) {
    this.#queue = queue;
    this.#events = events;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const next = new Promise<IteratorResult<T, undefined>>((resolve, reject) => this.#calls.push({ resolve, reject }));
    this.#serve();
    return next;
  }

  /** Leaving a loop comes here. */
  async return(): Promise<IteratorResult<T, undefined>> {
    const [unread, wasOver] = [this.#queue, this.#end];
    this.#queue = new Queue(unread.limit);
    this.stop({});
    if (!wasOver) this.#events.left(unread);
    return { value: undefined, done: true };
  }

  /** How much of its room is taken, up to 1. */
  get load(): number {
    return this.#queue.length / this.#queue.limit;
  }

  push(item: T): void {
    this.#queue.push(item);
    this.#serve();
  }

  /** What waits is still given out. */
  finish(end: End): void {
    this.#end ??= end;
    this.#serve();
  }

  /** Nothing is given out any more. */
  stop(end: End): void {
    this.#queue.clear();
    this.#end = end;
    this.#serve();
  }

  #serve(): void {
    while (this.#calls.length > 0) {
      const item = this.#queue.shift();
      if (!item && !this.#end) return;
      const call = this.#calls.shift()!;
      if (item) {
        call.resolve({ value: item, done: false });
        this.#events.gave(item);
      } else {
        this.#tellEnd(call);
      }
    }
  }

  /** An error is thrown once; afterwards the loop is just over. */
  #tellEnd(call: Call<T>): void {
    const end = this.#end!;
    this.#end = {};
    if ("error" in end) call.reject(end.error);
    else call.resolve({ value: undefined, done: true });
  }
}
