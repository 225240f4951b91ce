/// <reference lib="esnext.disposable" preserve="true" />
import type { CallOptions, SendOptions, WaitOptions } from "./call-types.js";
import type { Direct, GapReason, Member, Members, Position, Sender, TopicState } from "./channel-types.js";
import type { Unsubscribe } from "./listeners.js";

/** A message of a topic. The same object for everybody who gets it on this page. */
export interface TopicMessage<T> {
  readonly data: T;
  readonly from: Sender;
  /** Where it is in the topic; `undefined` for a volatile one, which is kept nowhere. */
  readonly position: Position | undefined;
  /** When the server took it, in ms since 1970 by its clock. */
  readonly at: number;
  /** It had been there before the topic was opened on this connection: history, or what was missed meanwhile. */
  readonly recovered: boolean;
  /** Messages are missing before this one. Only on the first after a gap. */
  readonly gap?: GapReason | undefined;
}

/** Older messages of a topic. */
export interface HistoryPage<T> {
  /** The oldest first. */
  readonly messages: readonly TopicMessage<T>[];
  /** Whether there are still older ones. */
  readonly more: boolean;
}

/** Options of `client.topic`. */
export interface TopicOptions {
  /**
   * How many of the newest messages to begin with, 0 to 256, as far as the server keeps them; also where it cannot go on
   * from where it was. Default: 0.
   */
  history?: number | undefined;
  /** Whether to hear what this client itself publishes. Default: `true`. */
  echo?: boolean | undefined;
  /**
   * What the members see of this client: a `Uint8Array` as bytes, anything else as JSON, at most 4,096 bytes. With it, `null`
   * too, the client is a member, if the server's topic has members; without it, it is not.
   */
  presence?: unknown;
  /** Whether to be told of members. Default: `true`. */
  members?: boolean | undefined;
  /** Begin after this message, and not with `history`, as far as the server still has what comes after it. Default: none. */
  since?: Position | undefined;
  /** Messages that wait for each loop, 1 to 65,536. Default: 1,024. */
  buffer?: number | undefined;
  /**
   * What becomes of a message when `buffer` is full. `"pause"`: the topic is left on the server and followed again from the
   * same place when half of the buffer has been read, so that nothing is lost that the server keeps; volatile messages are, and
   * meanwhile others do not see this client as a member. It pauses for everybody who shares the topic on this client.
   * `"drop"`: the oldest is dropped, and the next one says `gap: "overflow"`. `"error"`: the loop throws `overflow` after
   * what is buffered. Before the first loop, and between two, the oldest is always dropped. Default: `"pause"`.
   */
  overflow?: "pause" | "drop" | "error" | undefined;
  /** An abort closes it, and its loops end at once with the signal's `reason`; an earlier one is thrown. Default: none. */
  signal?: AbortSignal | undefined;
}

/** Options of `publish`. The default of `timeoutMs` is the client's `callTimeoutMs`. */
export interface PublishOptions extends WaitOptions, SendOptions {
  /**
   * Names this message for the server, which publishes once for each subject and key within a day and answers a repetition
   * with the first position. With a key it is sent again after a reset instead of rejecting with `unknown`. 1 to 200
   * bytes, without control characters; a random UUID does. Default: none.
   */
  idempotencyKey?: string | undefined;
  volatile?: false | undefined;
}

/** Options of `publish` for what may be lost. */
export interface VolatileOptions {
  /**
   * Kept nowhere, and dropped where it cannot go on at once: while not connected, or on a line that is full. At most 16 KiB.
   * What the server refuses it tells by the client's event `warning`.
   */
  volatile: true;
}

/** Options of `topic.history`. The default of `timeoutMs` is the client's `callTimeoutMs`. */
export interface HistoryOptions extends WaitOptions {
  /** Messages older than this one. Default: the newest ones. */
  before?: Position | undefined;
  /** How many, 1 to 256. There may be fewer, also if there are `more`. Default: 50. */
  limit?: number | undefined;
}

/** Events of `topic.on`. */
export interface TopicEvents<T> {
  /** A message, as it comes and without a buffer. */
  message: TopicMessage<T>;
  /** A message for this client alone. Who sent it need not follow the topic. */
  direct: Direct;
  /** The server could not go on where the topic had been left; the next message says so, too. */
  gap: GapReason;
}

/**
 * A topic that is followed: `for await` gives its messages, over every connection and in order, each once, and where one is
 * missing, the next one says so.
 *
 * Loops and who listens see the same messages. What comes while there is no loop waits for the next one, as much as `buffer`
 * has room for. Each loop gets everything from when it began, and ends when the topic is closed and what waits has been
 * read; if the server closed it, by throwing why.
 */
export interface Topic<T> extends AsyncIterable<TopicMessage<T>>, Disposable {
  readonly name: string;

  /** How it stands; the same object until that changes. */
  readonly current: TopicState;

  /** Hears how it stands, whenever that changes. It can be taken off the object. */
  readonly subscribe: (listener: (state: TopicState) => void) => Unsubscribe;

  /**
   * Waits until it is open; at once if it is. By default without limit. That is when the server has let this client in, and
   * tells from where it goes on; history, or what was missed, comes after it, and `current.synced` says when that is over.
   *
   * @throws ChannelError why the server closed it (`forbidden`, `no_such_channel`, …), `closed`, `timeout`
   */
  ready(options?: WaitOptions): Promise<this>;

  /** Who is there. */
  readonly members: Members;

  /**
   * Up to where it has been handed on: to the loop that read last or, while there is none, to who listens. To begin there
   * another time, pass it as `since`; a program that is not done with a message when it has it keeps the message's own.
   * `undefined` before there is anything.
   */
  readonly position: Position | undefined;

  /** Hears an event. After the topic is closed nothing is told. */
  on<E extends keyof TopicEvents<T>>(event: E, listener: (value: TopicEvents<T>[E]) => void): Unsubscribe;

  /** As `client.publish`. @throws also ChannelError `closed` when this topic is */
  publish(data: T, options: VolatileOptions): void;
  publish(data: T, options?: PublishOptions): Promise<Position>;

  /**
   * Sends something to one member: it hears the event `direct`. Resolves when the server has handed it on or keeps it for the
   * member, which may be away.
   *
   * @throws ChannelError `no_such_member`, `forbidden`, and what a call may throw
   */
  sendTo(member: string | Member, data: unknown, options?: CallOptions): Promise<void>;

  /**
   * Reads older messages, `recovered` each of them, without handing them on.
   *
   * @throws ChannelError `unknown_position` if the server does not know `before`, `forbidden`, and what a call may throw
   */
  history(options?: HistoryOptions): Promise<HistoryPage<T>>;

  /**
   * Changes what the members see of this client, which becomes a member if it was none. Resolves when the server has it.
   * While not connected it waits for the next connection. The default of `timeoutMs` is without limit while the topic is not
   * open, and the client's `callTimeoutMs` otherwise.
   *
   * @throws ChannelError `too_large` above 4,096 bytes, `too_many_members`, and what `ready` and a call may throw
   */
  setPresence(data: unknown, options?: WaitOptions): Promise<void>;

  /** Follows it no longer. Loops end after what waits for them. A second call does nothing. */
  close(): void;
}
