import type { MoorlineError } from "./errors.js";
import type { Unsubscribe } from "./listeners.js";

/**
 * A place in a channel, before which everything is older and after which everything is newer. Two of them can be compared
 * for equality, and nothing else can be read from one. It may be kept, in `localStorage` for instance, and be given as `since`.
 */
export type Position = string;

/** Why something is missing in a topic. */
export type GapReason =
  /** The server has made the topic anew; what was there is gone. */
  | "recreated"
  /** The server has lost something that had been told: after a crash, say, or from a backup. */
  | "diverged"
  /** More came than the server keeps: the oldest of it is not there any more. */
  | "trimmed"
  /** More came than `buffer` has room for. */
  | "overflow";

/** Who published something. The server says so, the publisher cannot. */
export interface Sender {
  /** Its id among the members, see {@link Member}; `0000000000000000` for the server. It ends with the sender's session. */
  readonly member: string;
  /** The name of its subject; empty for the server. */
  readonly subject: string;
}

/** A message for this client alone, see `topic.sendTo`. */
export interface Direct {
  readonly data: any;
  readonly from: Sender;
  /** When the server took it, in ms since 1970 by its clock. */
  readonly at: number;
}

/** Who is in a topic: a session, which may show something of itself. */
export interface Member {
  /** The same for a session in every topic, another one for each session. */
  readonly id: string;
  /** The name of its subject. */
  readonly subject: string;
  /** What it shows of itself, see `presence` in {@link TopicOptions}; `undefined` also if it cannot be read. */
  readonly data: any;
  /** Its connection is lost. It may come back to its session, or it leaves when the server stops waiting. */
  readonly away: boolean;
  /** When it came, in ms since 1970 by the server's clock. */
  readonly joinedAt: number;
  /** Since when it is away, in ms since 1970 by the server's clock; `undefined` while it is here. */
  readonly seenAt: number | undefined;
  /** It is this client. */
  readonly me: boolean;
}

/** Who is in a topic, as an external store: `subscribe` and `current` go with React's `useSyncExternalStore`. */
export interface Members {
  /**
   * In the order in which they were told; the same array until something changes, and what has not changed of it is the same
   * object. While there is no connection it is what was known last.
   */
  readonly current: readonly Member[];
  /** Hears of changes; the present members are not told. */
  subscribe(listener: (members: readonly Member[]) => void): Unsubscribe;
}

/** How a topic or a store stands. The same object until something changes. */
export interface TopicState {
  /** `opening` whenever there is no connection over which it is open; `closed` is final. */
  readonly status: "opening" | "open" | "closed";
  /**
   * Of the newest opening: `true` if it went on exactly where it had been left, `false` if something is missing, see `gap`;
   * `undefined` if it began with nothing to go on from.
   */
  readonly recovered: boolean | undefined;
  /** What is missing, if the newest opening could not go on. */
  readonly gap: GapReason | undefined;
  /**
   * Whether all has come that was there when it was opened on this connection, history or what was missed: what comes from now
   * on is new. `false` also while it is paused because a loop is slow; of a store, until somebody reads it.
   */
  readonly synced: boolean;
  /** Why the server, or the client, closed it; `undefined` if it was closed on purpose, or is not closed. */
  readonly error: MoorlineError | undefined;
}
