import type { WaitOptions } from "./call-types.js";
import type { Attachment, Follower, Wishes } from "./channel.js";
import type { Direct, GapReason, Member, Position, TopicState } from "./channel-types.js";
import { ChannelError, type MoorlineError } from "./errors.js";
import { follow, Listeners, type Unsubscribe } from "./listeners.js";
import { checkReadyOptions, checkSetPresenceOptions, MAX_PRESENCE } from "./options.js";
import { encode, type Payload } from "./payload.js";
import { Queue, Reader, type End, type Item } from "./reader.js";
import { Settlement } from "./settlement.js";
import type { TopicOptions } from "./topic-types.js";

/** How a live object hands on what comes. */
export interface Handing {
  buffer: number;
  overflow: NonNullable<TopicOptions["overflow"]>;
  signal: AbortSignal | undefined;
  /** Nothing may be lost: what comes before anybody reads or listens is waited with, and told to the first who does. */
  isLossless?: boolean;
}

type Events<T> = { readonly items: Listeners<T>; readonly direct: Listeners<Direct>; readonly gap: Listeners<GapReason> };

/**
 * One live object over an attachment that others may share: what has come and is not read yet, its loops, and who listens.
 * What kind of channel it is, the subclass knows.
 */
export abstract class Live<T extends Item> implements AsyncIterable<T, undefined> {
  readonly name: string;
  // Bound, as is `subscribe`: `useSyncExternalStore` takes them off the object.
  readonly members: { readonly current: readonly Member[]; subscribe(listener: (members: readonly Member[]) => void): Unsubscribe };
  protected readonly attachment: Attachment<T>;
  protected readonly events: Events<T> = { items: new Listeners(), direct: new Listeners(), gap: new Listeners() };

  readonly #handing: Handing;
  readonly #states = new Listeners<void>();
  readonly #memberChanges = new Listeners<void>();
  readonly #readers = new Set<Reader<T>>();
  /** What comes while there is no loop. */
  #unread: Queue<T>;
  #position: Position | undefined;
  /** Who listens is about to be told what has come before. */
  #isHearing = false;
  /** Once it is over: what it stays, and how loops end. */
  #over: { state: TopicState; members: readonly Member[]; end: End } | undefined;

  declare [Symbol.dispose]: () => void;
  static {
    // Not as a method: where a browser lacks the symbol, it would be called "undefined".
    if (Symbol.dispose) this.prototype[Symbol.dispose] = function () { this.close(); };
  }

  constructor(attachment: Attachment<T>, wishes: Wishes, handing: Handing) {
    this.name = attachment.type.name;
    this.attachment = attachment;
    this.#handing = handing;
    this.#unread = new Queue(handing.buffer);
    const live = this;
    this.members = Object.freeze({
      get current() { return live.#over?.members ?? attachment.roster.list; },
      subscribe: (listener: (members: readonly Member[]) => void) =>
        // What there is by now, also for who is told late.
        this.#memberChanges.add(() => listener(this.members.current)),
    });
    handing.signal?.addEventListener("abort", this.#onAbort);
    const { recent, gap } = attachment.join(this.#follower, wishes);
    if (gap) this.#unread.lose(gap);
    for (const item of recent) this.#unread.push(item);
    if (!gap && recent.length === 0) this.#position = attachment.position;
  }

  get current(): TopicState {
    return this.#over?.state ?? this.attachment.state;
  }

  readonly subscribe = (listener: (state: this["current"]) => void): Unsubscribe =>
    follow(this.#states, () => this.current, listener);

  get position(): Position | undefined {
    return this.#position;
  }

  async ready(options?: WaitOptions): Promise<this> {
    await this.#until(() => this.current.status === "open", checkReadyOptions(options));
    return this;
  }

  #until(isSo: () => boolean, { timeoutMs = Infinity, signal }: WaitOptions): Promise<void> {
    const timedOut = () => this.attachment.host.timeout(ChannelError, `\`${this.name}\` was not open within ${timeoutMs} ms`);
    const settlement = new Settlement<void>({ timeoutMs, signal, timedOut });
    const look = (): void => {
      if (this.#over) settlement.reject("error" in this.#over.end ? this.#over.end.error : this.closedError());
      if (isSo()) settlement.resolve();
    };
    const forget = this.#states.add(look);
    look();
    return settlement.promise.finally(forget);
  }

  async setPresence(data: unknown, options?: WaitOptions): Promise<void> {
    const checked = checkSetPresenceOptions(options);
    this.assertOpen();
    const payload = presenceFrom(data);
    if (payload.body.length > MAX_PRESENCE) throw new ChannelError("too_large", `A presence has at most ${MAX_PRESENCE} bytes`);
    return this.attachment.present(payload, checked, () => this.#until(() => this.attachment.isMember, checked));
  }

  [Symbol.asyncIterator](): Reader<T> {
    // The first one begins with what has come, later ones with what comes.
    const isFirst = this.#readers.size === 0;
    const queue = isFirst ? this.#unread : new Queue<T>(this.#handing.buffer);
    if (isFirst) this.#unread = new Queue(this.#handing.buffer);
    if (isFirst && queue.length === 0) this.#position ??= this.attachment.position;
    const reader: Reader<T> = new Reader(queue, {
      gave: ({ position }) => {
        if (position) this.#position = position;
        this.attachment.drained();
      },
      left: (unread) => {
        if (!this.#readers.delete(reader)) return;
        // The next loop goes on where the last one was left.
        if (this.#readers.size === 0) this.#unread = unread;
        this.attachment.drained();
        this.changed();
      },
    });
    if (this.#over) reader.finish(this.#over.end);
    else this.#readers.add(reader);
    this.changed();
    return reader;
  }

  close(): void {
    this.#finish(undefined, {}, (reader) => reader.finish({}));
  }

  /** Whether all that has come is told, or in a loop's hands. */
  protected get isHandedOn(): boolean {
    return this.#unread.length === 0 || this.#readers.size > 0;
  }

  /** Somebody listens now: tells what has come before, and behind it what comes until then. */
  protected hear(): void {
    if (this.#readers.size > 0 || this.#isHearing) return;
    if (this.#unread.length === 0) {
      this.#position ??= this.attachment.position;
      return;
    }
    this.#isHearing = true;
    queueMicrotask(() => {
      this.#isHearing = false;
      while (this.#readers.size === 0 && !this.events.items.isEmpty) {
        const item = this.#unread.shift();
        if (!item) break;
        this.#tell(item);
      }
      this.attachment.drained();
      this.changed();
    });
  }

  /** How it stands may have changed. */
  protected changed(): void {
    this.#states.emit();
  }

  /** For the subclass: it goes on, on another connection or anew. The state is told by now, and nothing else. */
  protected handleOpened(): void {}

  /** For the subclass: `current` of the attachment has changed. Nobody has been told. */
  protected handleStateChange(): void {}

  /** For the subclass: it is over. Nobody has been told. */
  protected handleEnd(): void {}

  /** @throws ChannelError `closed` */
  protected assertOpen(): void {
    if (this.#over) throw this.closedError();
  }

  protected closedError(cause = this.current.error): ChannelError {
    return new ChannelError("closed", `\`${this.name}\` is closed`, { cause, remedy: "Ask the client for a new one." });
  }

  readonly #onAbort = (): void => {
    const end = { error: this.#handing.signal?.reason };
    this.#finish(undefined, end, (reader) => reader.stop(end));
  };

  #finish(error: MoorlineError | undefined, end: End, stop: (reader: Reader<T>) => void): void {
    if (this.#over) return;
    const state = Object.freeze({ ...this.attachment.state, status: "closed" as const, synced: false, error });
    this.#over = { state, members: this.members.current, end };
    this.handleEnd();
    this.#handing.signal?.removeEventListener("abort", this.#onAbort);
    this.attachment.leave(this.#follower);
    for (const reader of this.#readers) stop(reader);
    this.#readers.clear();
    this.changed();
    for (const listeners of [this.#states, this.#memberChanges, ...Object.values(this.events)]) listeners.clear();
  }

  #take(item: T): void {
    if (this.#readers.size === 0 && !this.#isHeard) this.#unread.push(item);
    for (const reader of this.#readers) {
      if (reader.load < 1 || this.#handing.overflow !== "error" || item.position === undefined) {
        reader.push(item);
        continue;
      }
      this.#readers.delete(reader);
      reader.finish({ error: overflow(this.name, this.#handing.buffer) });
      if (this.#readers.size === 0) this.#unread.lose();
    }
  }

  /** What comes goes to who listens, and need not wait for a loop as well. */
  get #isHeard(): boolean {
    return this.#handing.isLossless === true && !this.events.items.isEmpty && !this.#isHearing;
  }

  #tell(item: T): void {
    // Loops tell better up to where it has been read.
    if (this.#readers.size === 0 && item.position) this.#position = item.position;
    this.events.items.emit(item);
  }

  /** It has come to a position without anything to hand on. */
  #pass(position: Position | undefined): void {
    const isIdle = this.#handing.isLossless && this.#readers.size === 0 && !this.#isHeard;
    if (isIdle || this.#unread.length > 0) return;
    if ([...this.#readers].every((reader) => reader.load === 0)) this.#position = position;
  }

  readonly #follower: Follower<T> = {
    load: () => {
      if (this.#handing.overflow !== "pause") return 0;
      const unread = this.#handing.isLossless ? this.#unread.length / this.#handing.buffer : 0;
      return Math.max(unread, ...[...this.#readers].map((reader) => reader.load));
    },
    take: (item) => this.#take(item),
    tell: (item) => {
      if (!this.events.items.isEmpty && !this.#isHearing) this.#tell(item);
    },
    passed: (position) => this.#pass(position),
    opened: (position, gap) => {
      this.#pass(position);
      this.handleOpened();
      // Also where it stands as before: somebody may wait for exactly this.
      this.changed();
      if (gap) this.events.gap.emit(gap);
    },
    direct: (message) => this.events.direct.emit(message),
    stateChanged: () => {
      this.handleStateChange();
      this.changed();
    },
    membersChanged: () => this.#memberChanges.emit(),
    end: (error) => {
      const end = error ? { error } : {};
      this.#finish(error, end, (reader) => reader.finish(end));
    },
  };
}

/** What is shown to the others, as it is now: the caller may change it later. */
export function presenceFrom(data: unknown): Payload {
  const { encoding, body } = encode(data);
  return { encoding, body: new Uint8Array(body) };
}

function overflow(name: string, buffer: number): ChannelError {
  return new ChannelError("overflow", `More than ${buffer} messages of \`${name}\` waited for a loop that reads too slowly`, {
    remedy: 'Do less between two messages, raise `buffer`, or let `overflow` be "pause" or "drop".',
    retryable: true,
  });
}
