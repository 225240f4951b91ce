/// <reference lib="esnext.disposable" preserve="true" />
import type { WaitOptions } from "./call-types.js";
import type { GapReason, Members, Position, Sender, TopicState } from "./channel-types.js";
import type { MoorlineError } from "./errors.js";
import type { Unsubscribe } from "./listeners.js";

/** Options of `client.store`. */
export interface StoreOptions {
  /** What the members see of this client. Default: none, and it is not a member. */
  presence?: unknown;
  /** Whether to be told of the members. Default: `true`. */
  members?: boolean | undefined;
  /** Up to where the application has the store already. Default: nothing of it. */
  since?: Position | undefined;
  /** How many updates wait for who reads slowly, from 1 to 65,536; then the server waits. Default: 1,024. */
  buffer?: number | undefined;
  /**
   * Whether patches wait in the browser's IndexedDB until the server has them, so that they outlive a reload or a crash
   * without a connection. Default: `false`.
   */
  offline?: boolean | undefined;
}

/** How a store is doing. A new object whenever something changes. */
export interface StoreState extends TopicState {
  /** Patches that the server has not confirmed: of this page, and with `offline: true` what it took over of earlier ones. */
  readonly pending: number;
  /** With `offline: true`: how many are in `store.refused`. */
  readonly refused: number;
  /** With `offline: true`: how many are in `store.withheld`. */
  readonly withheld: number;
  /**
   * Where they wait: nowhere (they are lost with the page), with `offline: true` in IndexedDB, or in memory where the
   * browser gives no IndexedDB (some private windows, Node).
   */
  readonly offline: "off" | "disk" | "memory";
}

/** What a store hands on: a snapshot stands for everything up to its position, a patch for itself. */
export type StoreUpdate =
  | { readonly kind: "snapshot"; readonly data: Uint8Array; readonly position: Position; readonly at: number }
  | {
      readonly kind: "patch";
      readonly data: Uint8Array;
      readonly from: Sender;
      readonly position: Position;
      readonly at: number;
      /** It was there before the store was opened on this connection. */
      readonly recovered: boolean;
    };

/**
 * A patch that the server does not take (`forbidden`, `too_large`, …). With `offline: true` it is told once and kept aside
 * until one of both is called, over reloads too.
 */
export interface RefusedPatch {
  readonly patch: Uint8Array;
  readonly error: MoorlineError;
  /** When it was appended, in ms since 1970. */
  readonly at: number;
  /** Puts it at the end of what waits to be sent. */
  retry(): void;
  /** Forgets it. */
  discard(): void;
}

/**
 * Patches that somebody else has written on this device, who was signed in then: they are sent when that one signs in again,
 * and as nobody else.
 */
export interface WithheldPatches {
  readonly subject: string;
  readonly tenant: string;
  /** How many there are. */
  readonly patches: number;
  /** Forgets them, but for those of another page that is open. */
  discard(): void;
}

/** What a store tells, by the name of the event. */
export interface StoreEvents {
  /** The next snapshot or patch. Whoever listens has everything up to `store.position` when it returns. */
  update: StoreUpdate;
  /** It could not go on from where it was: what follows begins with a snapshot, or with the first patch. */
  gap: GapReason;
  /** With `offline: true`: a patch is kept aside. */
  refused: RefusedPatch;
}

/** Options of `store.append`. */
export interface AppendOptions extends WaitOptions {
  /** The server appends only the first of those that have the same key within a day. Default: a random one. */
  idempotencyKey?: string | undefined;
}

/** Options of `store.value`. */
export interface ValueOptions extends WaitOptions {
  /** The largest value that is read, in bytes. Default: 64 MiB. */
  maxBytes?: number | undefined;
}

/**
 * A log of opaque patches on the server, with a snapshot: a live object at once, which opens by itself on every connection.
 * Who comes late gets the snapshot and what came after it, and needs nobody else for that.
 */
export interface Store extends AsyncIterable<StoreUpdate>, Disposable {
  readonly name: string;
  readonly current: StoreState;
  /** Tells every change of `current`. It can be taken off the object. */
  readonly subscribe: (listener: (state: StoreState) => void) => Unsubscribe;
  /** Resolves when it is open; for what is in it see `current.synced`. @throws the error of a closed one */
  ready(options?: WaitOptions): Promise<this>;
  readonly members: Members;
  /** Up to where everything was handed on, own patches counted as such. */
  readonly position: Position | undefined;
  /** What came before the first listener or iterator is told to that one. */
  on<E extends keyof StoreEvents>(event: E, listener: (value: StoreEvents[E]) => void): Unsubscribe;
  /**
   * Settles after the commit on the server's disk. The handle that appended a patch does not get it back.
   *
   * With `offline: true` a timeout or an abort ends the waiting and not the patch.
   */
  append(patch: Uint8Array, options?: AppendOptions): Promise<Position>;
  /** Replaces everything up to `position`, for all who come after. Needs the scope `store.admin`. */
  snapshot(data: Uint8Array, position: Position, options?: WaitOptions): Promise<void>;
  /** Keeps a value beside the log, for a patch to refer to. Gives its id: a SHA-256 in hex. */
  putValue(value: Uint8Array, options?: WaitOptions): Promise<string>;
  /** A value, checked against its id. */
  value(id: string, options?: ValueOptions): Promise<Uint8Array>;
  /** The patches that are kept aside; the same array until `current` changes. */
  readonly refused: readonly RefusedPatch[];
  /** What others have left on this device, as it was found on the last connection; the same array until `current` changes. */
  readonly withheld: readonly WithheldPatches[];
  setPresence(data: unknown, options?: WaitOptions): Promise<void>;
  /** Idempotent. Iterators end after what is buffered; with `offline: true` what waits is sent by another page, or the next. */
  close(): void;
}
