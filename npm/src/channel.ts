import { PRESENT, type ChannelKind, type ChannelStart, type CoreHost } from "./boundary.js";
import type { CallOptions } from "./call-types.js";
import type { Direct, GapReason, Position, Sender, TopicState } from "./channel-types.js";
import { ChannelError, type MoorlineError } from "./errors.js";
import { fromCore } from "./failure.js";
import type { Listeners } from "./listeners.js";
import { Roster } from "./members.js";
import type { Owner } from "./owner.js";
import { decode, isSame, type Payload } from "./payload.js";
import { positionFrom } from "./position.js";
import type { Item } from "./reader.js";

/** Something to be done in a channel, which is answered as a call is. */
export interface ChannelRequest {
  kind: ChannelKind;
  what: number;
  name: string;
  target?: Uint8Array;
  count?: number;
  payload: Payload;
  options: CallOptions;
}

/** What channels need of their client. What it rejects with is a {@link ChannelError}, or the reason of an abort. */
export interface ChannelHost extends Owner {
  /** Which member this client is. */
  me(): string | undefined;
  /**
   * Who this client is (JSON of tenant and subject; `undefined` while that is about to change), and where: what is left for
   * later is done by the same one at the same server.
   */
  server(): string;
  owner(): string | undefined;
  /** Told when `owner` has changed. */
  readonly ownerChanges: Listeners<void>;
  request(request: ChannelRequest): Promise<Payload | undefined>;
}

/** What there is of a channel, before somebody reads it. */
export interface Update {
  readonly position: Position | undefined;
  readonly at: number;
  readonly recovered: boolean;
  readonly from: Sender;
  readonly payload: Payload;
  /** What is missing before it. */
  readonly gap: GapReason | undefined;
  /** It stands for everything up to its position. */
  readonly isSnapshot?: boolean;
}

/** What kind of a channel it is, and how what comes from it is read. */
export interface ChannelType<T extends Item> {
  kind: ChannelKind;
  name: string;
  /** Whether what this client writes is left out. */
  quiet: boolean;
  /** Throws when it cannot be read; `undefined` for what is not to be handed on. */
  read(update: Update): T | undefined;
}

/** How one of those who share an attachment wants it. */
export interface Wishes {
  history: number;
  members: boolean;
  presence: Payload | undefined;
  since: Uint8Array | undefined;
}

/** One of those who share an attachment. Everything but `take`, `load` and `passed` may run code of the application's. */
export interface Follower<T extends Item> {
  /** How full the fullest loop is that must lose nothing, up to 1. */
  load(): number;
  /** Puts it where it is waited for. */
  take(item: T): void;
  /** Tells who listens. */
  tell(item: T): void;
  /** It was not for this follower, or for nobody. */
  passed(position: Position): void;
  /** It goes on, from a position if that is known, with a gap if there is one. */
  opened(position: Position | undefined, gap: GapReason | undefined): void;
  direct(message: Direct): void;
  stateChanged(): void;
  membersChanged(): void;
  /** Nothing comes after it. */
  end(error: MoorlineError | undefined): void;
}

type Life =
  /** There is no core yet that could follow it. */
  | { at: "waiting" }
  /** Held: somebody is slow, and it is gone on with, from the same place, when there is room. */
  | { at: "followed"; id: number; is: "asked" | "open" | "held" }
  | { at: "over" };

/** One channel that is followed, for all who share it. */
export class Attachment<T extends Item> {
  readonly type: ChannelType<T>;
  readonly roster = new Roster();
  #state: TopicState =
    Object.freeze({ status: "opening", recovered: undefined, gap: undefined, synced: false, error: undefined });
  #life: Life = { at: "waiting" };
  readonly #channels: Channels;
  readonly #followers = new Set<Follower<T>>();
  #history = 0;
  #members = false;
  #presence: Payload | undefined;
  /** What the core shows of this client whenever it opens the channel. */
  #shown: Payload | undefined;
  /** Up to where it has been handed on, or from where it goes on. */
  #position: Uint8Array | undefined;
  /** Up to where it was written when it began: the core wants to know when it is followed again. */
  #past = 0;
  /** What is missing before the next one. */
  #gap: GapReason | undefined;
  /** The newest ones, for who comes later: as many as the history that is asked for. */
  readonly #recent: T[] = [];

  constructor(type: ChannelType<T>, channels: Channels) {
    this.type = type;
    this.#channels = channels;
  }

  get state(): TopicState {
    return this.#state;
  }

  get position(): Position | undefined {
    return this.#position && positionFrom(this.#position);
  }

  get host(): ChannelHost {
    return this.#channels.host;
  }

  /** Whether the server knows this client as a member, as far as is known here. */
  get isMember(): boolean {
    const isKnown = this.#life.at === "followed" && this.#life.is !== "asked" && this.#state.status === "open";
    return isKnown && this.#shown !== undefined;
  }

  /**
   * Somebody more follows it: the newest wishes count where they do not go together.
   *
   * @returns what it begins with, and what is missing before that
   */
  join(follower: Follower<T>, { history, members, presence, since }: Wishes): { recent: T[]; gap?: GapReason } {
    const isFirst = this.#followers.size === 0;
    this.#followers.add(follower);
    if (this.#life.at === "over") return follower.end(this.#state.error), { recent: [] };
    const begins = isFirst ? { recent: [] } : this.#after(since);
    if (isFirst) this.#position = since;
    // History is what a channel is opened with: more of it comes only while it is not open.
    let isOther = history > this.#history && !this.#position && this.#state.status === "opening";
    this.#history = Math.max(this.#history, history);
    if (members && !this.#members) isOther = this.#members = true;
    if (presence && !(this.#presence && isSame(presence, this.#presence))) {
      if (this.isMember) {
        // Nobody waits for it. That the client closed is no news, anything else is.
        this.present(presence, {}).catch((error) => { if (error.code !== "closed") this.host.report(error); });
      } else {
        this.#presence = presence;
        isOther = true;
      }
    }
    if (this.#life.at === "waiting") this.follow();
    else if (isOther) this.#followAgain();
    return begins;
  }

  /** What is still here of what came after `since`. */
  #after(since: Uint8Array | undefined): { recent: T[]; gap?: GapReason } {
    if (!since) return { recent: [...this.#recent] };
    const position = positionFrom(since);
    if (position === this.position) return { recent: [] };
    const at = this.#recent.findIndex((item) => item.position === position);
    return { recent: this.#recent.slice(at + 1), ...(at < 0 && { gap: "trimmed" as const }) };
  }

  leave(follower: Follower<T>): void {
    this.#followers.delete(follower);
    if (this.#followers.size === 0) this.end(undefined);
    else this.drained();
  }

  /** From now on, as far as there is a core. */
  follow(): void {
    if (this.#life.at === "waiting") this.#follow();
  }

  /** From where it has been handed on, and instead of what is followed already. */
  #follow(instead?: number): void {
    const core = this.host.core();
    if (!core) return;
    const { kind, name, quiet } = this.type;
    this.#shown = this.#presence;
    const { encoding, body } = this.#presence ?? {};
    try {
      const [history, members, position, past] = [this.#history, this.#members, this.#position, this.#past];
      const id = core.follow(kind, name, history, quiet, members, position, encoding, body, past, instead);
      this.#life = { at: "followed", id, is: "asked" };
      // Of the other one something may be on its way, which comes again.
      if (instead !== undefined) this.#channels.byId.delete(instead);
      this.#channels.byId.set(id, this);
    } catch (failure) {
      this.end(fromCore(ChannelError, failure));
    }
  }

  #unfollow(next: Life): void {
    if (this.#life.at === "followed") {
      this.#channels.byId.delete(this.#life.id);
      this.host.core()?.unfollow(this.#life.id);
    }
    this.#life = next;
  }

  /** Otherwise than up to now. What is held is gone on with so. */
  #followAgain(): void {
    if (this.#life.at !== "followed" || this.#life.is === "held") return;
    this.#follow(this.#life.id);
    this.#become({ status: "opening", synced: false });
  }

  /** What is full has been read, or left: it may go on. */
  drained(): void {
    // Half of the room, so that it is not followed anew for every one that is read.
    if (this.#life.at === "followed" && this.#life.is === "held" && this.#load() <= 0.5) this.#follow(this.#life.id);
  }

  #load(): number {
    return Math.max(...[...this.#followers].map((follower) => follower.load()));
  }

  /** Shows something else of this client from now on, and resolves when the server has it. */
  async present(presence: Payload, options: CallOptions, opened?: () => Promise<unknown>): Promise<void> {
    const before = this.#presence;
    this.#presence = presence;
    if (!this.isMember) {
      this.#followAgain();
      await opened?.();
      return;
    }
    try {
      const { kind, name } = this.type;
      const answer = this.host.request({ kind, what: PRESENT, name, payload: presence, options });
      // What has been asked for the core remembers.
      this.#shown = presence;
      await answer;
    } catch (error) {
      if (this.#presence === presence) this.#presence = before;
      throw error;
    }
  }

  /** There is no connection any more; the core opens the channel again on the next one. */
  disconnected(): void {
    if (this.#life.at === "followed" && this.#life.is === "open") this.#life.is = "asked";
    // Something was refused, and is not to be shown again. Nothing is open, so this costs nothing.
    if (this.#shown !== this.#presence) this.#followAgain();
    this.#become({ status: "opening", synced: false });
  }

  opened(start: ChannelStart, position: Uint8Array | undefined, past: number): void {
    if (this.#life.at !== "followed" || this.#life.is === "held") return;
    this.#life.is = "open";
    const gap = start === "new" || start === "recovered" ? undefined : start;
    [this.#position, this.#past] = [position, past];
    if (gap) {
      this.#gap = gap;
      this.#recent.length = 0;
    }
    const text = this.position;
    this.#become({ status: "open", recovered: start === "new" ? undefined : !gap, gap, synced: false });
    for (const follower of [...this.#followers]) follower.opened(text, gap);
  }

  update(
    position: Uint8Array, at: number, recovered: boolean, from: Sender, payload: Payload, isSnapshot = false,
  ): void {
    // What was on its way comes again.
    if (this.#life.at !== "followed" || this.#life.is === "held") return;
    if (this.#load() >= 1) {
      // Nobody gets it now, and everybody later.
      if (!this.#position) this.#gap ??= "overflow";
      this.#life.is = "held";
      this.host.core()?.hold(this.#life.id);
      return this.#become({ synced: false });
    }
    this.#position = position;
    const text = positionFrom(position);
    const item = this.#read({ position: text, at, recovered, from, payload, gap: this.#gap, isSnapshot });
    if (!item) {
      for (const follower of this.#followers) follower.passed(text);
      return;
    }
    this.#gap = undefined;
    this.#recent.push(item);
    if (this.#recent.length > this.#history) this.#recent.shift();
    this.#hand(item);
  }

  /** All has been told that was there when it was opened. */
  caughtUp(): void {
    if (this.#life.at === "followed" && this.#life.is !== "held") this.#become({ synced: true });
  }

  /** One that is not kept. Where there is no room for it, it is lost. */
  volatile(at: number, from: Sender, payload: Payload): void {
    if (this.#life.at !== "followed" || this.#life.is === "held") return;
    const item = this.#read({ position: undefined, at, recovered: false, from, payload, gap: undefined });
    if (item) this.#hand(item);
  }

  /** What somebody has written that nobody can read ends no loop. */
  #read(update: Update): T | undefined {
    try {
      return this.type.read(update);
    } catch (unreadable) {
      this.host.report(fromCore(ChannelError, unreadable));
      return undefined;
    }
  }

  #hand(item: T): void {
    const followers = [...this.#followers];
    for (const follower of followers) follower.take(item);
    for (const follower of followers) follower.tell(item);
  }

  direct(message: Direct): void {
    for (const follower of [...this.#followers]) follower.direct(message);
  }

  members(whole: boolean, flat: unknown[]): void {
    if (!this.roster.take(whole, flat, this.host.me())) return;
    for (const follower of [...this.#followers]) follower.membersChanged();
  }

  /** The server does not tell of it any more, and knows no handle of it. */
  closed(error: MoorlineError): void {
    if (this.#life.at === "followed") this.#channels.byId.delete(this.#life.id);
    this.#life = { at: "waiting" };
    this.end(error);
  }

  /** The one way out. */
  end(error: MoorlineError | undefined): void {
    if (this.#life.at === "over") return;
    this.#unfollow({ at: "over" });
    this.#channels.forget(this);
    this.#state = Object.freeze({ ...this.#state, status: "closed", synced: false, error });
    for (const follower of [...this.#followers]) follower.end(error);
  }

  #become(change: Partial<TopicState>): void {
    const state = { ...this.#state, ...change };
    if (this.#life.at === "over" || isEqual(state, this.#state)) return;
    this.#state = Object.freeze(state);
    for (const follower of [...this.#followers]) follower.stateChanged();
  }
}

/** The channels that a client follows. */
export class Channels {
  readonly host: ChannelHost;
  /** By the core's numbers. Of others, which were unfollowed, something may still be on its way. */
  readonly byId = new Map<number, Attachment<any>>();
  readonly #byKey = new Map<string, Attachment<any>>();
  readonly #own = new Set<Attachment<any>>();
  #ended: { error: MoorlineError | undefined } | undefined;

  constructor(host: ChannelHost) {
    this.host = host;
  }

  /** One that is shared with nobody: who joins another late would not get what came before. */
  ownAttachment<T extends Item>(type: ChannelType<T>): Attachment<T> {
    const made = new Attachment(type, this);
    if (this.#ended) made.end(this.#ended.error);
    else this.#own.add(made);
    return made;
  }

  /** The one of this kind, name and quietness. */
  attachment<T extends Item>(type: ChannelType<T>): Attachment<T> {
    const key = keyOf(type);
    const present = this.#byKey.get(key);
    if (present) return present;
    const made = new Attachment(type, this);
    if (this.#ended) made.end(this.#ended.error);
    else this.#byKey.set(key, made);
    return made;
  }

  forget(attachment: Attachment<any>): void {
    this.#own.delete(attachment);
    const key = keyOf(attachment.type);
    if (this.#byKey.get(key) === attachment) this.#byKey.delete(key);
  }

  get #all(): Attachment<any>[] {
    return [...this.#byKey.values(), ...this.#own];
  }

  /** There is a core now. */
  start(): void {
    for (const attachment of this.#all) attachment.follow();
  }

  disconnected(): void {
    for (const attachment of this.#all) attachment.disconnected();
  }

  /** The client has ended. */
  end(error: MoorlineError | undefined): void {
    this.#ended = { error };
    for (const attachment of this.#all) attachment.end(error);
  }

  /** What the core tells of channels. */
  readonly callbacks = {
    onChannelOpened: (id, start, position, past) => this.byId.get(id)?.opened(start, position, past),
    onUpdate: (id, position, at, before, member, subject, encoding, body) =>
      this.byId.get(id)?.update(position, at, before, sender(member, subject), { encoding, body }),
    onSnapshot: (id, position, at, body) =>
      this.byId.get(id)?.update(position, at, true, SERVER, { encoding: 0, body }, true),
    onCaughtUp: (id) => this.byId.get(id)?.caughtUp(),
    onVolatile: (id, at, member, subject, encoding, body) =>
      this.byId.get(id)?.volatile(at, sender(member, subject), { encoding, body }),
    onDirect: (kind, name, at, member, subject, encoding, body) =>
      this.#direct(kind, name, at, sender(member, subject), { encoding, body }),
    onMembers: (id, whole, members) => this.byId.get(id)?.members(whole, members),
    onChannelClosed: (id, failure) => this.byId.get(id)?.closed(fromCore(ChannelError, failure)),
  } satisfies Partial<CoreHost>;

  /** It belongs to a name, and so to everybody who follows that. */
  #direct(kind: ChannelKind, name: string, at: number, from: Sender, { encoding, body }: Payload): void {
    const attachments = this.#all.filter(({ type }) => type.kind === kind && type.name === name);
    if (attachments.length === 0) return;
    try {
      const message = Object.freeze({ data: decode(encoding, body), from, at });
      for (const attachment of attachments) attachment.direct(message);
    } catch (unreadable) {
      this.host.report(fromCore(ChannelError, unreadable));
    }
  }
}

const SERVER = sender("0000000000000000", "");

export function sender(member: string, subject: string): Sender {
  return Object.freeze({ member, subject });
}

function keyOf({ kind, name, quiet }: ChannelType<any>): string {
  return `${kind}${quiet ? "-" : "+"}${name}`;
}

function isEqual(one: TopicState, other: TopicState): boolean {
  return (Object.keys(one) as (keyof TopicState)[]).every((key) => one[key] === other[key]);
}
