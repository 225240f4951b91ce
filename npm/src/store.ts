import { APPEND, KEEP, SNAPSHOT, VALUE, type ChannelKind } from "./boundary.js";
import type { CallOptions, WaitOptions } from "./call-types.js";
import type { ChannelHost, Channels, Update } from "./channel.js";
import type { Position } from "./channel-types.js";
import { ChannelError } from "./errors.js";
import { Listeners, type Unsubscribe } from "./listeners.js";
import { Live, presenceFrom } from "./live.js";
import {
  checkAppendOptions, checkPutValueOptions, checkSnapshotOptions, checkStoreOptions, checkValueOptions, isName, unknownName,
} from "./options.js";
import { areSame } from "./payload.js";
import { isPosition, bytesOf, positionFrom } from "./position.js";
import { PatchQueue, randomId } from "./queue.js";
import { Settlement } from "./settlement.js";
import type {
  AppendOptions, RefusedPatch, Store, StoreEvents, StoreOptions, StoreState, StoreUpdate, ValueOptions, WithheldPatches,
} from "./store-types.js";
import { getValue, putValue, type Shelf } from "./value.js";

const STORE: ChannelKind = 4;
/** Positions of own patches that the server has answered before it told of them; that is rare. */
const MOST_AWAITED = 1_024;
const NOTHING = new Uint8Array();
const NONE = Object.freeze([]);

/** @throws ChannelError `invalid_name`; MoorlineError `invalid_option` */
export function openStore(channels: Channels, name: string, options: StoreOptions | undefined): LiveStore {
  const { presence, members = true, since, buffer = 1_024, offline = false } = checkStoreOptions(options);
  if (!isName(name)) throw new ChannelError("invalid_name");
  const echoes = new Echoes(channels.host);
  const attachment = channels.ownAttachment<StoreUpdate>({
    kind: STORE,
    name,
    // Own patches are told, too, and left out here: the server knows only whose session they are of, and one that an earlier
    // page left behind, or another object of this store has written, is as new to this one as anybody's.
    quiet: false,
    read: (update) => (echoes.isOne(update) ? undefined : read(update)),
  });
  const wishes = {
    history: 0,
    members,
    presence: presence === undefined ? undefined : presenceFrom(presence),
    since: since === undefined ? undefined : bytesOf(since),
  };
  return new LiveStore(attachment, wishes, { buffer, overflow: "pause", signal: undefined, isLossless: true }, echoes, offline);
}

type Joining = ConstructorParameters<typeof Live<StoreUpdate>>;

/** The implementation of `Store`. */
export class LiveStore extends Live<StoreUpdate> implements Store {
  readonly #echoes: Echoes;
  readonly #queue: PatchQueue | undefined;
  readonly #refusals = new Listeners<RefusedPatch>();
  readonly #stopOwnerChanges: Unsubscribe;
  /** What this object has appended, of all that the queue sends; once it has been sent, whom to tell what became of it. */
  readonly #own = new Map<string, ReturnType<Echoes["expect"]> | undefined>();
  #sending = 0;
  #shown: StoreState | undefined;

  constructor(...[attachment, wishes, handing, echoes, offline]: [...Joining, Echoes, boolean]) {
    super(attachment, wishes, handing);
    const { host } = attachment;
    this.#echoes = echoes;
    this.#stopOwnerChanges = host.ownerChanges.add(() => { if (super.current.status === "open") this.#startQueue(); });
    if (offline) this.#queue = new PatchQueue(host.server(), this.name, {
      send: (patch, operation, signal) => {
        // From the first time on: what was called back may have arrived.
        if (this.#own.has(operation)) this.#own.set(operation, this.#own.get(operation) ?? echoes.expect(patch));
        return this.#send(patch, { idempotencyKey: operation, timeoutMs: Infinity, signal });
      },
      onChange: () => this.changed(),
      onRefused: (refused) => this.#refusals.emit(refused),
      onMemory: (cause) => host.report(new ChannelError("offline_unavailable", "The browser does not keep what waits to be sent", {
        cause, remedy: "Go on: it is kept in memory, and lost with the page. Private windows and full disks are the usual causes.",
      })),
    });
    if (super.current.status === "closed") this.handleEnd();
  }

  override get current(): StoreState {
    const state = super.current;
    const next: StoreState = {
      ...state,
      synced: state.synced && this.isHandedOn,
      pending: this.#queue?.pending ?? this.#sending,
      refused: this.refused.length,
      withheld: this.withheld.length,
      offline: this.#queue?.where ?? "off",
    };
    const last = this.#shown;
    const isSame = last && (Object.keys(next) as (keyof StoreState)[]).every((key) => next[key] === last[key]);
    return isSame ? last : (this.#shown = Object.freeze(next));
  }

  get refused(): readonly RefusedPatch[] {
    return this.#queue?.refused ?? NONE;
  }

  get withheld(): readonly WithheldPatches[] {
    return this.#queue?.withheld ?? NONE;
  }

  on<E extends keyof StoreEvents>(event: E, listener: (value: StoreEvents[E]) => void): Unsubscribe {
    const events = { update: this.events.items, gap: this.events.gap, refused: this.#refusals };
    if (!Object.hasOwn(events, event)) throw unknownName("event of store.on()", event, Object.keys(events));
    const remove = events[event].add(listener as (value: any) => void);
    if (event === "update" && super.current.status !== "closed") this.hear();
    return remove;
  }

  async append(patch: Uint8Array, options?: AppendOptions): Promise<Position> {
    const { timeoutMs, signal, idempotencyKey } = checkAppendOptions(options);
    const bytes = checkBytes(patch, "A patch");
    this.assertOpen();
    signal?.throwIfAborted();
    if (!this.#queue) {
      const heard = this.#echoes.expect(bytes);
      const sent = this.#send(bytes, { timeoutMs, signal, idempotencyKey });
      sent.then(heard, () => heard(undefined));
      return sent;
    }

    const settlement = new Settlement<Position>({
      timeoutMs: timeoutMs ?? Infinity, signal,
      timedOut: () => this.attachment.host.timeout(ChannelError, "The patch was not confirmed in time, and still waits"),
    });
    const operation = idempotencyKey ?? randomId();
    this.#own.set(operation, this.#own.get(operation));
    const settled = (position?: Position): void => {
      this.#own.get(operation)?.(position);
      this.#own.delete(operation);
    };
    this.#queue.append(bytes, operation).then(
      (position) => (settled(position), settlement.resolve(position)),
      (error) => (settled(), settlement.reject(error)),
    );
    return settlement.promise;
  }

  async snapshot(data: Uint8Array, position: Position, options?: WaitOptions): Promise<void> {
    const checked = checkSnapshotOptions(options);
    if (!isPosition(position)) throw new ChannelError("unknown_position", `${position} is no position`);
    await this.#request(SNAPSHOT, bytesOf(position), checkBytes(data, "A snapshot"), checked);
  }

  async putValue(value: Uint8Array, options?: WaitOptions): Promise<string> {
    const shelf = this.#shelf(checkPutValueOptions(options));
    return putValue(shelf, checkBytes(value, "A value"));
  }

  async value(id: string, options?: ValueOptions): Promise<Uint8Array> {
    const { maxBytes, ...wait } = checkValueOptions(options);
    return getValue(this.#shelf(wait), id, maxBytes);
  }

  protected override handleOpened(): void {
    this.#echoes.reopened(super.current.recovered === true);
    this.#startQueue();
  }

  protected override handleStateChange(): void {
    // It is told by `opened` when it goes on.
    if (super.current.status !== "open") this.#queue?.stop();
  }

  protected override handleEnd(): void {
    // Over from the beginning: then the constructor sees to it.
    if (!(#queue in this)) return;
    this.#queue?.close();
    this.#stopOwnerChanges();
  }

  #startQueue(): void {
    const owner = this.attachment.host.owner();
    if (owner === undefined) this.#queue?.stop();
    else this.#queue?.start(owner);
  }

  async #send(patch: Uint8Array, options: CallOptions): Promise<Position> {
    this.#count(1);
    try {
      return positionFrom((await this.#request(APPEND, undefined, patch, options))!);
    } finally {
      this.#count(-1);
    }
  }

  #count(by: number): void {
    this.#sending += by;
    if (!this.#queue) this.changed();
  }

  async #request(
    what: number, target: Uint8Array | undefined, body: Uint8Array, options: CallOptions,
  ): Promise<Uint8Array | undefined> {
    this.assertOpen();
    const { name } = this;
    const answer = await this.attachment.host.request({
      kind: STORE, what, name, ...(target && { target }), payload: { encoding: 0, body }, options,
    });
    return answer?.body;
  }

  /** The time is for all that is asked together; by default each has its own. */
  #shelf({ timeoutMs, signal }: WaitOptions): Shelf {
    const deadline = performance.now() + (timeoutMs ?? 0);
    const options = (): CallOptions =>
      ({ signal, timeoutMs: timeoutMs === undefined ? undefined : Math.max(1, deadline - performance.now()) });
    return {
      keep: async (hash, stored) => void (await this.#request(KEEP, hash, stored, options())),
      fetch: async (hash) => (await this.#request(VALUE, hash, NOTHING, options())) ?? NOTHING,
    };
  }
}

/** A patch that is on its way, and how it is heard of. */
interface Expected {
  readonly patch: Uint8Array;
}

/** Knows a store's own patches when they come back, once. */
class Echoes {
  readonly #host: ChannelHost;
  /** What this client has been called: its sessions come and go. */
  readonly #members = new Set<string>();
  readonly #expected = new Set<Expected>();
  /** Confirmed, and not told yet. */
  readonly #awaited = new Set<Position>();

  constructor(host: ChannelHost) {
    this.#host = host;
  }

  /** A patch goes out. The result is to be told where it went, or that it did not. */
  expect(patch: Uint8Array): (position: Position | undefined) => void {
    this.#meet();
    // A copy: the caller may use its bytes again.
    const expected = { patch: new Uint8Array(patch) };
    this.#expected.add(expected);
    return (position) => {
      const isToCome = this.#expected.delete(expected);
      if (!isToCome || position === undefined) return;
      this.#awaited.add(position);
      if (this.#awaited.size > MOST_AWAITED) this.#awaited.delete([...this.#awaited][0]!);
    };
  }

  isOne({ position, from, payload, isSnapshot }: Update): boolean {
    if (isSnapshot || !this.#members.has(from.member)) return false;
    if (this.#awaited.delete(position!)) return true;
    for (const expected of this.#expected) {
      if (areSame(expected.patch, payload.body)) return this.#expected.delete(expected);
    }
    return false;
  }

  /** Told again from the beginning, what has been confirmed counts as any other. */
  reopened(goesOn: boolean): void {
    this.#meet();
    if (!goesOn) this.#awaited.clear();
  }

  #meet(): void {
    const me = this.#host.me();
    if (me) this.#members.add(me);
  }
}

function read({ position, at, recovered, from, payload, isSnapshot }: Update): StoreUpdate {
  const data = payload.body;
  return Object.freeze(isSnapshot
    ? { kind: "snapshot", data, position: position!, at }
    : { kind: "patch", data, from, position: position!, at, recovered });
}

function checkBytes(value: unknown, what: string): Uint8Array {
  if (ArrayBuffer.isView(value) && (value as Uint8Array)[Symbol.toStringTag] === "Uint8Array") return value as Uint8Array;
  throw new ChannelError("unreadable", `${what} is a Uint8Array`, { remedy: "Wrap binary data in one: new Uint8Array(buffer)." });
}
