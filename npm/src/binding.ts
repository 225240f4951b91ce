/**
 * Keeps a CRDT document and a store the same: what `moorline/yjs` and `moorline/loro` have in common.
 *
 * What is edited goes out as patches, several at once, each with a key, so that trying again appends nothing twice. What comes
 * in is applied. Whenever the store tells everything from its beginning (the first time, and after a gap), the document is
 * then compared with what was told, and what the server lacks is sent: edits from before, from another provider, or that a
 * server lost which was restored from a backup.
 */
import { ChannelError, MoorlineError } from "./errors.js";
import { fromHex, toHex } from "./hash.js";
import { follow, Listeners, reportUncaught, type Unsubscribe } from "./listeners.js";
import { isPassing, randomId } from "./queue.js";
import type { Store, StoreState, StoreUpdate } from "./store-types.js";

/** Options of `bindYjs` and `bindLoro`. */
export interface BindOptions {
  /**
   * After how many patches, or bytes of them, this client gives the server a snapshot, which is what those begin with who
   * come later. Needs the scope `store.admin`: a client without it asks once and leaves it to others. `false`: never.
   * Default: 500 patches or 512 KiB.
   */
  snapshotEvery?: { readonly patches?: number | undefined; readonly bytes?: number | undefined } | false | undefined;
  /** Told what keeps an edit from the server, or a part of the store from the document. Default: `console.error`. */
  onError?: ((error: MoorlineError) => void) | undefined;
}

/** How a binding is doing. The same object until something changes. */
export interface BindingState {
  /** Patches that the server has not confirmed, of the store's queue too. 0: everything that was edited is safe there. */
  readonly pending: number;
  /** Whether the document has everything that the server had when the store was opened on this connection. */
  readonly synced: boolean;
}

/** A document and a store that are kept the same. */
export interface Binding extends Disposable {
  /**
   * Resolves once the document has everything that the server had when the store was first opened. Rejects if the store or
   * the binding is closed before.
   */
  readonly synced: Promise<void>;
  readonly current: BindingState;
  /** Tells every change of `current`. It can be taken off the object. */
  readonly subscribe: (listener: (state: BindingState) => void) => Unsubscribe;
  /** Ends it, and leaves the document and the store as they are. What was edited before is still handed to the store. */
  destroy(): void;
}

/** What a binding must know of a kind of document. */
export interface Replica {
  /** From the store. Not told to `listen`. */
  apply(update: Uint8Array): void;
  /** One update of several, which came from `listen`. */
  merge(updates: readonly Uint8Array[]): Uint8Array;
  /** Everything, as one update. */
  state(): Uint8Array;
  isEmpty(): boolean;
  /** Whether it could use everything it was given, and waits for nothing in between. */
  isComplete(): boolean;
  /** What the document has beyond these updates; `undefined` for nothing. */
  beyond(updates: readonly Uint8Array[]): Uint8Array | undefined;
  /**
   * `isEdit`: made here, and not by another provider that may well have it from the server.
   *
   * @param onEnd the document is gone
   */
  listen(listener: (update: Uint8Array, isEdit: boolean) => void, onEnd: () => void): () => void;
}

/** On its way to the server. */
interface Patch {
  readonly key: string;
  readonly bytes: Uint8Array;
  isSending: boolean;
}

/** What is larger goes beside the log, as a value, and the log has a reference to it. */
export const LARGEST_PATCH = 1024 * 1024;
/** Patches on their way at once, if they wait in memory anyway; what is edited meanwhile becomes one patch. */
const WINDOW = 8;
/** Updates that are merged before more come. */
const MOST_UPDATES = 256;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
const SNAPSHOT_PATCHES = 500;
const SNAPSHOT_BYTES = 512 * 1024;
/** Clients that have counted the same do not all speak at once. */
const SNAPSHOT_SPREAD_MS = 2_000;

/** Begins no update of Yjs (whose first number it would be, and is too large for one) and none of Loro (`loro`). */
const REFERENCE = Uint8Array.from([...Array(10).fill(0xff), ...new TextEncoder().encode("value1")]);
const HASH_BYTES = 32;

export class StoreBinding implements Binding {
  readonly synced: Promise<void>;

  readonly #replica: Replica;
  readonly #store: Store;
  readonly #onError: (error: MoorlineError) => void;
  readonly #stopListening: (() => void)[];
  readonly #changes = new Listeners<void>();
  #state: BindingState = Object.freeze({ pending: 0, synced: false });
  #isDestroyed = false;
  #isOpen = false;
  #settle!: { resolve(): void; reject(error: MoorlineError): void };

  /** Edits that are not in a patch yet. */
  #edits: Uint8Array[] = [];
  #isFlushDue = false;
  readonly #patches = new Set<Patch>();
  #pauseMs = FIRST_PAUSE_MS;
  #pause: ReturnType<typeof setTimeout> | undefined;

  /** What the server is known to have, while it tells everything; afterwards nobody needs to know. */
  #told: Uint8Array[] | undefined = [];
  /** The document may have more than was told and than its own patches. */
  #hasMore: boolean;
  /** Values that updates refer to and that are being read. */
  #reading = 0;
  /** Whether everything that the store has handed on is in the document: else no snapshot of it may replace the log. */
  #isWhole: boolean;

  readonly #snapshotEvery: { patches: number; bytes: number } | undefined;
  #maySnapshot: boolean;
  #since = { patches: 0, bytes: 0 };
  #snapshotting: ReturnType<typeof setTimeout> | "under way" | undefined;

  declare [Symbol.dispose]: () => void;
  static {
    if (Symbol.dispose) this.prototype[Symbol.dispose] = function () { this.destroy(); };
  }

  constructor(replica: Replica, store: Store, options: BindOptions = {}) {
    this.#replica = replica;
    this.#store = store;
    this.#onError = options.onError ?? ((error) => console.error(error));
    const { snapshotEvery = {} } = options;
    this.#maySnapshot = snapshotEvery !== false;
    this.#snapshotEvery = snapshotEvery === false ? undefined : {
      patches: snapshotEvery.patches ?? SNAPSHOT_PATCHES,
      bytes: snapshotEvery.bytes ?? SNAPSHOT_BYTES,
    };
    this.#hasMore = !replica.isEmpty();
    // Of a store that others have read from, it sees only the rest.
    this.#isWhole = store.position === undefined;
    this.synced = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.synced.catch(() => {}); // Nobody has to wait for it.
    this.#stopListening = [
      replica.listen((update, isEdit) => this.#edited(update, isEdit), () => this.destroy()),
      store.on("gap", () => this.#begin()),
      store.on("update", (update) => this.#handle(update)),
      store.subscribe((state) => this.#follow(state)),
    ];
    this.#follow(store.current);
  }

  get current(): BindingState {
    const { pending: queued, synced } = this.#store.current;
    // What is in a patch of ours is with the store, too, or on its way there.
    const pending = Math.max(this.#patches.size, queued) + (this.#edits.length > 0 ? 1 : 0);
    const isSynced = synced && this.#reading === 0 && !this.#isDestroyed;
    if (pending === this.#state.pending && isSynced === this.#state.synced) return this.#state;
    return (this.#state = Object.freeze({ pending, synced: isSynced }));
  }

  readonly subscribe = (listener: (state: BindingState) => void): Unsubscribe =>
    follow(this.#changes, () => this.current, listener);

  destroy(): void {
    this.#end(new ChannelError("closed", "The binding was destroyed"));
  }

  #end(reason: MoorlineError): void {
    if (this.#isDestroyed) return;
    this.#goOn();
    this.#flush(Infinity);
    this.#isDestroyed = true;
    if (this.#snapshotting !== "under way") clearTimeout(this.#snapshotting);
    for (const stop of this.#stopListening) stop();
    this.#settle.reject(reason);
    this.#changes.emit();
  }

  // From the store.

  /** The store tells everything from its beginning. */
  #begin(): void {
    this.#told = [];
    this.#hasMore = !this.#replica.isEmpty();
    this.#since = { patches: 0, bytes: 0 };
    this.#isWhole = true;
  }

  #handle(update: StoreUpdate): void {
    if (this.#isDestroyed) return;
    if (update.kind === "snapshot") {
      this.#since = { patches: 0, bytes: 0 };
      this.#isWhole = true;
    } else {
      this.#count(update.data.length);
    }
    const value = referredTo(update.data);
    if (value === undefined) this.#apply(update.data);
    else void this.#read(value);
    this.#complete(this.#store.current);
    this.#considerSnapshot();
  }

  #apply(update: Uint8Array): void {
    try {
      this.#replica.apply(update);
      this.#told?.push(update);
    } catch (cause) {
      // Others have it as well; this document goes on without.
      this.#isWhole = false;
      this.#report(new ChannelError("unreadable", `A patch of \`${this.#store.name}\` cannot be applied: ${cause}`, { cause }));
    }
  }

  /** Later updates need not wait for it: where they build on it, the document keeps them until it is there. */
  async #read(id: string): Promise<void> {
    this.#reading++;
    this.#changes.emit();
    for (let pauseMs = FIRST_PAUSE_MS; !this.#isDestroyed; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        const update = await this.#store.value(id, { timeoutMs: Infinity });
        if (!this.#isDestroyed) this.#apply(update);
        break;
      } catch (thrown) {
        const error = asError(thrown);
        if (!isPassing(error) || error.code === "closed") {
          this.#isWhole = false;
          if (error.code !== "closed") this.#report(error);
          break;
        }
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    }
    this.#reading--;
    this.#complete(this.#store.current);
    this.#changes.emit();
  }

  #follow(state: StoreState): void {
    if (this.#isDestroyed) return;
    if (state.status === "closed") return this.#end(state.error ?? new ChannelError("closed", "The store is closed"));
    const isNew = state.status === "open" && !this.#isOpen;
    this.#isOpen = state.status === "open";
    if (isNew) this.#goOn();
    this.#complete(state);
    this.#changes.emit();
  }

  /** Everything has been told: now it is known what the server lacks. */
  #complete(state: StoreState): void {
    if (!state.synced || this.#reading > 0 || this.#isDestroyed) return;
    const told = this.#told;
    this.#told = undefined;
    if (told && this.#hasMore) {
      const own = [...this.#patches].map((patch) => patch.bytes);
      const missing = this.#replica.beyond([...told, ...own, ...this.#edits]);
      if (missing) this.#edits.push(missing);
      this.#flushSoon();
    }
    this.#settle.resolve();
  }

  // To the store.

  #edited(update: Uint8Array, isEdit: boolean): void {
    // Who else writes into the document before all was told has most of it from the server: compare, and send the rest.
    if (!isEdit && this.#told) this.#hasMore = true;
    else this.#edits.push(update);
    this.#flushSoon();
    this.#changes.emit();
  }

  /** What happens within one task becomes one patch. */
  #flushSoon(): void {
    if (this.#isFlushDue || this.#edits.length === 0) return;
    this.#isFlushDue = true;
    queueMicrotask(() => {
      this.#isFlushDue = false;
      // Those of the store's own queue are safe there, and only there.
      this.#flush(this.#store.current.offline === "off" ? WINDOW : Infinity);
    });
  }

  #flush(window: number): void {
    if (this.#edits.length === 0 || this.#isDestroyed) return;
    if (this.#patches.size >= window || this.#pause) {
      if (this.#edits.length > MOST_UPDATES) this.#edits = this.#merged();
      return;
    }
    const merged = this.#merged();
    this.#edits = [];
    for (const bytes of merged) {
      const patch = { key: randomId(), bytes, isSending: false };
      this.#patches.add(patch);
      void this.#send(patch);
    }
  }

  /** The edits as one, or as they are where that cannot be made: a document of Loro's that was freed gives nothing any more. */
  #merged(): Uint8Array[] {
    try {
      return [this.#replica.merge(this.#edits)];
    } catch {
      return this.#edits;
    }
  }

  async #send(patch: Patch): Promise<void> {
    patch.isSending = true;
    let failure: MoorlineError | undefined;
    try {
      const inline = patch.bytes.length <= LARGEST_PATCH;
      const bytes = inline ? patch.bytes : reference(await this.#store.putValue(patch.bytes, { timeoutMs: Infinity }));
      await this.#store.append(bytes, { idempotencyKey: patch.key, timeoutMs: Infinity });
    } catch (thrown) {
      failure = asError(thrown);
    }
    patch.isSending = false;
    if (failure && isPassing(failure)) return this.#pauseFor(failure);
    this.#patches.delete(patch);
    if (failure) this.#report(failure);
    else this.#confirmed(patch);
    this.#flushSoon();
    this.#changes.emit();
  }

  #confirmed(patch: Patch): void {
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#told?.push(patch.bytes);
    this.#count(patch.bytes.length);
    this.#considerSnapshot();
  }

  /** It is kept, and nothing new is sent before it. */
  #pauseFor(failure: MoorlineError): void {
    if (this.#isDestroyed || this.#pause || failure.code === "closed") return;
    this.#pause = setTimeout(() => this.#goOn(), this.#pauseMs);
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
  }

  #goOn(): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
    for (const patch of this.#patches) if (!patch.isSending) void this.#send(patch);
    this.#flushSoon();
  }

  // Snapshots.

  #count(bytes: number): void {
    this.#since.patches++;
    this.#since.bytes += bytes;
  }

  #considerSnapshot(): void {
    const every = this.#snapshotEvery;
    const isDue = every && (this.#since.patches >= every.patches || this.#since.bytes >= every.bytes);
    if (!isDue || !this.#maySnapshot || this.#snapshotting || this.#isDestroyed) return;
    this.#snapshotting = setTimeout(() => void this.#snapshot(), Math.random() * SNAPSHOT_SPREAD_MS);
  }

  async #snapshot(): Promise<void> {
    this.#snapshotting = undefined;
    const position = this.#store.position;
    const isComplete = this.#store.current.synced && !this.#told && this.#reading === 0
      && this.#isWhole && this.#replica.isComplete();
    if (!isComplete || position === undefined) return;
    // Both in the same task: the document has everything up to this position, and maybe more, which does no harm.
    const state = this.#replica.state();
    this.#since = { patches: 0, bytes: 0 };
    this.#snapshotting = "under way";
    try {
      const data = state.length <= LARGEST_PATCH ? state : reference(await this.#store.putValue(state));
      await this.#store.snapshot(data, position);
    } catch (thrown) {
      if (asError(thrown).code === "forbidden") this.#maySnapshot = false;
      // Any other failure, too: it is due again when as much has come once more.
    }
    this.#snapshotting = undefined;
  }

  #report(error: MoorlineError): void {
    try {
      this.#onError(error);
    } catch (thrown) {
      reportUncaught(thrown);
    }
  }
}

function reference(id: string): Uint8Array {
  return Uint8Array.from([...REFERENCE, ...fromHex(id, HASH_BYTES)!]);
}

/** The id of the value that stands for this update. */
function referredTo(update: Uint8Array): string | undefined {
  if (update.length !== REFERENCE.length + HASH_BYTES || REFERENCE.some((byte, at) => update[at] !== byte)) return undefined;
  return toHex(update.subarray(REFERENCE.length));
}

function asError(thrown: unknown): MoorlineError {
  return MoorlineError.is(thrown) ? thrown : new ChannelError("internal", String(thrown), { cause: thrown });
}
