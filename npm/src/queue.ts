/**
 * Patches on their way to one store of one server, in the order in which they were written.
 *
 * Each has an operation, 128 random bits, by which the server appends it once (it remembers for a day), and is kept in
 * IndexedDB from before it is sent until the server has confirmed it. So a page may vanish at any moment: the next one
 * sends what was left, and what comes twice is appended once. After a day without a page it may be appended twice, which
 * does not matter to CRDTs.
 *
 * Pages know of each other by Web Locks: one holds the lock of its name while it has patches, and who gets that lock takes
 * over what is there. It says so to the others when it has some, who wait for that lock: so a page that stays takes over from
 * one that goes. Without Web Locks each page sends the others' too, and the server sorts it out.
 *
 * A patch belongs to who was signed in when it was written, and is sent as nobody else: what is under way when the connection
 * is lost, or somebody else signs in, is called back, for the core would send it again whoever the client is then. What others
 * left is shown, and can be discarded.
 */
import type { Position } from "./channel-types.js";
import { Disk, type KeptPatch } from "./disk.js";
import { ChannelError, MoorlineError } from "./errors.js";
import { toHex } from "./hash.js";
import type { RefusedPatch, WithheldPatches } from "./store-types.js";

/** Patches of a store that wait, the refused among them. */
export const MOST_PATCHES = 10_000;
/** Bytes of them; the last may stand out. */
export const MOST_BYTES = 16 * 1024 * 1024;

/** On their way at once. Only after a failure or a lost connection may one come behind those that were sent after it. */
const WINDOW = 16;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** A handler that fails has no answer of its own; what it fails on every time must not hold up the rest. */
const MOST_INTERNAL_FAILURES = 8;

/** What a queue needs from around it. */
export interface QueueHost {
  /** Sends a patch; rejects with a MoorlineError, or when `signal` says that it is to be called back. Never called before `start`. */
  send(patch: Uint8Array, operation: string, signal: AbortSignal): Promise<Position>;
  /** `pending`, `where`, `refused` or `withheld` have changed. */
  onChange(): void;
  /** Told once: nobody else waits for it, or whoever does hears it as well. */
  onRefused(refused: RefusedPatch): void;
  /** The browser keeps nothing (any more): what is written from now on is lost with the page. */
  onMemory(reason: unknown): void;
  /** Default: the platform's. `undefined` where there is none. */
  indexedDB?: IDBFactory | undefined;
  locks?: LockManager | undefined;
  /** Without it, what a page leaves waits for the next connection of another one. */
  broadcast?: typeof BroadcastChannel | undefined;
}

interface Waiting extends KeptPatch {
  state: "keeping" | "waiting" | "sending" | "refused";
  failures: number;
  resolve(position: Position): void;
  reject(error: MoorlineError): void;
}

/** The patches of one page for one store. */
export class PatchQueue {
  readonly #server: string;
  readonly #store: string;
  readonly #host: QueueHost;
  readonly #factory: IDBFactory | undefined;
  readonly #lockManager: LockManager | undefined;
  readonly #Broadcast: typeof BroadcastChannel | undefined;
  readonly #page = randomId();
  /** In the order in which they are sent. */
  #waiting: Waiting[] = [];
  #refused: Waiting[] = [];
  #bytes = 0;

  /** As whom it may send; `undefined` while it may not. */
  #owner: string | undefined;
  /** Whose the next patch is; empty while nobody has signed in. */
  #writer = "";
  /** Calls back what is under way. */
  #calling = new AbortController();
  /** How many of those that wait are of others. */
  #foreignWaiting = 0;
  /** How many patches others left on the disk, by whose they are. */
  #foreign = new Map<string, number>();
  /** Made when they are asked for, and the same until something changes. */
  #lists: { refused: readonly RefusedPatch[]; withheld: readonly WithheldPatches[] } | undefined;
  /** Counts `start` and `stop`: what began before the last of them is not to send. */
  #turn = 0;
  #sending = 0;
  #pauseMs = FIRST_PAUSE_MS;
  #pause: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  #disk: Promise<Disk | undefined> | undefined;
  #where: "disk" | "memory";
  /** What is to be kept by the next transaction, for which `#keeping` stands. */
  #unkept: Waiting[] = [];
  #keeping: Promise<void> = Promise.resolve();
  #adopting: Promise<void> = Promise.resolve();
  /** Ends the hold of a lock, by the page it is of. */
  readonly #locks = new Map<string, () => void>();
  /** Other pages of this store tell there who has patches. */
  #others: BroadcastChannel | undefined;
  /** Pages that have patches, and whose locks are waited for. */
  readonly #watched = new Set<string>();
  readonly #closing = new AbortController();

  constructor(server: string, store: string, host: QueueHost) {
    this.#server = server;
    this.#store = store;
    this.#host = host;
    this.#factory = "indexedDB" in host ? host.indexedDB : offered(() => globalThis.indexedDB);
    this.#lockManager = "locks" in host ? host.locks : offered(() => globalThis.navigator?.locks);
    this.#Broadcast = "broadcast" in host ? host.broadcast : offered(() => globalThis.BroadcastChannel);
    this.#where = this.#factory ? "disk" : "memory";
  }

  /** Patches that the server has not confirmed, without the refused and those of others. */
  get pending(): number {
    return this.#waiting.length - this.#foreignWaiting;
  }

  get where(): "disk" | "memory" {
    return this.#where;
  }

  get refused(): readonly RefusedPatch[] {
    return this.#shown.refused;
  }

  /** What others wrote, by whom. */
  get withheld(): readonly WithheldPatches[] {
    return this.#shown.withheld;
  }

  get #shown(): { refused: readonly RefusedPatch[]; withheld: readonly WithheldPatches[] } {
    if (this.#lists) return this.#lists;
    const own = this.#refused.filter((patch) => this.#isOwn(patch));
    const counts = new Map(this.#foreign);
    for (const { owner, sequence } of this.#foreigners) {
      if (sequence === undefined) counts.set(owner, (counts.get(owner) ?? 0) + 1);
    }
    const withheld = [...counts].map(([owner, patches]): WithheldPatches => {
      const [tenant, subject] = JSON.parse(owner) as [string, string];
      return Object.freeze({ subject, tenant, patches, discard: () => this.#discard(owner) });
    });
    const refused = own.map((patch) => this.#refusal(patch));
    return (this.#lists = { refused: Object.freeze(refused), withheld: Object.freeze(withheld) });
  }

  /** What this page has of others, who were signed in before. */
  get #foreigners(): Waiting[] {
    return [...this.#waiting, ...this.#refused].filter((patch) => !this.#isOwn(patch));
  }

  #isOwn({ owner }: KeptPatch): boolean {
    return owner === this.#writer || owner === "";
  }

  #listsChanged(): void {
    this.#lists = undefined;
    this.#host.onChange();
  }

  /**
   * Keeps a patch, and sends it when its turn comes. Resolves when the server has confirmed it. Rejects with `queue_full`
   * when it is not taken, with what the server refuses it for, and with `closed` when the queue is closed before: then the
   * next page sends it, if it is on the disk.
   */
  append(patch: Uint8Array, operation = randomId()): Promise<Position> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(closed());
      const count = this.#waiting.length + this.#refused.length;
      if (count >= MOST_PATCHES || this.#bytes >= MOST_BYTES) return reject(full());
      this.#bytes += patch.length;
      const waiting: Waiting = {
        server: this.#server,
        store: this.#store,
        owner: this.#writer,
        page: this.#page,
        operation,
        // A copy of these bytes alone: the caller may use them again, and the database would keep all that lies around them.
        patch: new Uint8Array(patch),
        at: Date.now(),
        state: "keeping",
        failures: 0,
        resolve,
        reject,
      };
      this.#waiting.push(waiting);
      this.#keep(waiting);
      this.#host.onChange();
    });
  }

  /** There is a connection, as `owner` (JSON of tenant and subject): takes over what earlier pages left and sends. */
  start(owner: string): void {
    // A token was renewed, or the channel opened anew.
    if (this.#isClosed || owner === this.#owner) return;
    this.stop();
    const turn = this.#turn;
    this.#writer = owner;
    const unowned = this.#waiting.filter((patch) => patch.owner === "");
    for (const patch of unowned) patch.owner = owner;
    this.#foreignWaiting = this.#waiting.filter((patch) => !this.#isOwn(patch)).length;
    this.#listsChanged();
    const adopt = (): Promise<void> => this.#adopt(owner, unowned).catch((error) => this.#lose(error));
    this.#adopting = this.#adopting.then(adopt).then(() => {
      if (turn !== this.#turn || this.#isClosed) return;
      this.#owner = owner;
      this.#goOn();
      this.#pump();
      this.#releaseIdle();
    });
  }

  /** There is no connection any more, or nobody knows as whom. */
  stop(): void {
    this.#turn++;
    this.#owner = undefined;
    const calling = this.#calling;
    this.#calling = new AbortController();
    calling.abort();
  }

  /** What is appended is kept, and sent by another page, or the next. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // What is nowhere else goes out, if it can.
    if (this.#where === "disk") this.stop();
    clearTimeout(this.#pause);
    this.#closing.abort();
    const left = this.#waiting;
    this.#waiting = [];
    for (const patch of left) patch.reject(closed());
    void Promise.all([this.#keeping, this.#adopting]).then(async () => {
      (await this.#disk)?.close();
      // Not before: what was just kept is told there.
      this.#others?.close();
      this.#release();
    });
  }

  /** What comes while a transaction is under way goes into the next one together. */
  #keep(patch: Waiting): void {
    this.#unkept.push(patch);
    if (this.#unkept.length === 1) this.#keeping = this.#keeping.then(() => this.#keepBatch());
  }

  async #keepBatch(): Promise<void> {
    const disk = await this.#open();
    // Its own lock: who gets it may take this page for gone.
    const isNew = disk !== undefined && !this.#locks.has(this.#page);
    if (isNew) await this.#claim(this.#page);
    const batch = this.#unkept;
    this.#unkept = [];
    try {
      const sequences = await disk?.add(batch.map(kept));
      sequences?.forEach((sequence, at) => (batch[at]!.sequence = sequence));
      // Not before they are there: a page that opens in between finds them by itself.
      if (isNew) this.#others?.postMessage(this.#page);
    } catch (error) {
      if (isFull(error)) return this.#turnAway(batch, error);
      this.#lose(error);
    }
    for (const patch of batch) patch.state = "waiting";
    this.#pump();
  }

  /** The browser gives no more room: these were not taken. */
  #turnAway(batch: readonly Waiting[], cause: unknown): void {
    for (const patch of batch) {
      this.#forget(patch);
      patch.reject(full(cause));
    }
    this.#host.onChange();
  }

  #open(): Promise<Disk | undefined> {
    return (this.#disk ??= this.#tryOpen());
  }

  async #tryOpen(): Promise<Disk | undefined> {
    if (!this.#factory) return undefined;
    try {
      const disk = await Disk.open(this.#factory, () => this.#lose(new Error("IndexedDB was closed by the browser")));
      this.#hearOthers();
      return disk;
    } catch (error) {
      this.#lose(error);
      return undefined;
    }
  }

  #lose(reason: unknown): void {
    if (this.#where === "memory" || this.#isClosed) return;
    this.#where = "memory";
    void this.#disk?.then((disk) => disk?.close());
    this.#disk = Promise.resolve(undefined);
    this.#host.onMemory(reason);
    this.#host.onChange();
  }

  /** Holds the lock of a page from now on. `false` if that page is there, or another one has taken it over. */
  #claim(page: string): Promise<boolean> {
    const locks = this.#lockManager;
    if (!locks) return Promise.resolve(true);
    return new Promise((resolve) => {
      const hold = (lock: Lock | null): Promise<void> | undefined => {
        const holding = lock ? new Promise<void>((release) => this.#locks.set(page, release)) : undefined;
        resolve(lock !== null);
        return holding;
      };
      // Refused in documents without an origin, which have no IndexedDB either.
      locks.request(lockOf(page), { ifAvailable: true }, hold).catch(() => resolve(true));
    });
  }

  #hearOthers(): void {
    if (!this.#Broadcast || !this.#lockManager) return;
    this.#others = new this.#Broadcast(`moorline-queue:${JSON.stringify([this.#server, this.#store])}`);
    this.#others.onmessage = ({ data }) => this.#watch(data);
  }

  /** Takes over from a page (or another object of this one) that is there, when it lets go of its lock: it has sent everything, or is gone. */
  #watch(page: string): void {
    if (!this.#lockManager || this.#isClosed || this.#watched.has(page) || this.#locks.has(page)) return;
    this.#watched.add(page);
    const takeOver = (): void => {
      this.#watched.delete(page);
      this.#adopting = this.#adopting.then(async () => {
        // Without a connection, that is done when there is one.
        if (this.#owner !== undefined) await this.#adopt(this.#owner, []);
      }).catch((error) => this.#lose(error)).then(() => {
        this.#pump();
        this.#releaseIdle();
      });
    };
    this.#lockManager.request(lockOf(page), { signal: this.#closing.signal }, takeOver).catch(() => {});
  }

  /** Without patches it holds no lock: browsers keep no page for the way back that holds one. */
  #releaseIdle(): void {
    if (this.#waiting.length + this.#refused.length === 0) this.#release();
  }

  #release(): void {
    for (const release of this.#locks.values()) release();
    this.#locks.clear();
  }

  /** Takes over what pages left that are gone, to be sent first. */
  async #adopt(owner: string, unowned: readonly Waiting[]): Promise<void> {
    const disk = await this.#open();
    if (!disk) return;
    await this.#keeping;
    // What was kept before anybody knew for whom.
    await disk.update(unowned.filter((patch) => patch.sequence !== undefined).map(kept));

    const left = async (): Promise<KeptPatch[]> => this.#survey(await disk.list(this.#server, this.#store), owner)
      .filter((patch) => patch.page !== this.#page && (patch.owner === owner || patch.owner === ""));
    const pages = new Set<string>();
    for (const page of new Set((await left()).map((patch) => patch.page))) {
      if (this.#locks.has(page) || (await this.#claim(page))) pages.add(page);
      else this.#watch(page);
    }
    if (pages.size === 0) return this.#listsChanged();
    // Read again, because a page may have sent everything before it let go of its lock.
    const known = new Set([...this.#waiting, ...this.#refused].map((patch) => patch.sequence));
    const found = (await left()).filter((patch) => pages.has(patch.page) && !known.has(patch.sequence));
    const unclaimed = found.filter((patch) => patch.owner === "");
    for (const patch of unclaimed) patch.owner = owner;
    await disk.update(unclaimed);
    if (this.#isClosed) return;

    const adopted = found.map((patch): Waiting => ({
      ...patch, state: patch.refused ? "refused" : "waiting", failures: 0, resolve: () => {}, reject: () => {},
    }));
    for (const { patch } of adopted) this.#bytes += patch.length;
    const isWaiting = (patch: Waiting): boolean => patch.state === "waiting";
    this.#refused.push(...adopted.filter((patch) => !isWaiting(patch)));
    const sent = this.#waiting.filter((patch) => patch.state === "sending");
    const own = this.#waiting.filter((patch) => patch.state !== "sending");
    this.#waiting = [...sent, ...adopted.filter(isWaiting), ...own];
    this.#listsChanged();
  }

  /** Counts what is there of others. */
  #survey(all: KeptPatch[], me: string): KeptPatch[] {
    this.#foreign = new Map();
    for (const { owner } of all) {
      if (owner !== me && owner !== "") this.#foreign.set(owner, (this.#foreign.get(owner) ?? 0) + 1);
    }
    return all;
  }

  /** Forgets what somebody else has written, here and in pages that are gone. */
  #discard(owner: string): void {
    if (this.#isClosed || owner === this.#writer) return;
    for (const patch of this.#foreigners.filter((patch) => patch.owner === owner)) {
      this.#forget(patch);
      this.#erase(patch);
      patch.reject(new ChannelError("cancelled", "The patch was discarded before the server had it"));
    }
    this.#foreign.delete(owner);
    this.#listsChanged();
    this.#adopting = this.#adopting.then(async () => {
      const disk = await this.#open();
      await this.#keeping;
      if (!disk || this.#isClosed) return;
      const left = (await disk.list(this.#server, this.#store)).filter((patch) => patch.owner === owner);
      const gone = new Set([this.#page]);
      for (const page of new Set(left.map((patch) => patch.page))) {
        if (this.#locks.has(page) || (await this.#claim(page))) gone.add(page);
      }
      await disk.remove(left.filter(({ page }) => gone.has(page)).map(({ sequence }) => sequence!));
      this.#survey(await disk.list(this.#server, this.#store), this.#writer);
      this.#listsChanged();
      this.#releaseIdle();
    }).catch((error) => this.#lose(error));
  }

  #pump(): void {
    while (this.#owner !== undefined && !this.#pause && this.#sending < WINDOW) {
      const next = this.#waiting.find((patch) => patch.state === "waiting" && patch.owner === this.#owner);
      if (!next) return;
      void this.#send(next);
    }
  }

  async #send(patch: Waiting): Promise<void> {
    patch.state = "sending";
    this.#sending++;
    const { signal } = this.#calling;
    let outcome: { position: Position } | { error: unknown };
    try {
      outcome = { position: await this.#host.send(patch.patch, patch.operation, signal) };
    } catch (error) {
      outcome = { error };
    }
    this.#sending--;
    if (this.#isClosed) return;
    const isThere = this.#waiting.includes(patch);
    if (!isThere) {
      // It was discarded meanwhile.
    } else if ("position" in outcome) {
      this.#goOn();
      this.#forget(patch);
      this.#erase(patch);
      patch.resolve(outcome.position);
      this.#host.onChange();
    } else if (signal.aborted) {
      patch.state = "waiting";
    } else {
      this.#fail(patch, asError(outcome.error));
    }
    this.#pump();
    this.#releaseIdle();
  }

  #fail(patch: Waiting, error: MoorlineError): void {
    patch.failures++;
    const mayPass = isPassing(error) && !(error.code === "internal" && patch.failures >= MOST_INTERNAL_FAILURES);
    if (!mayPass) return this.#setAside(patch, error);
    patch.state = "waiting";
    // Those on their way may still arrive; nothing follows them until a pause is over.
    if (this.#pause) return;
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#pump();
    }, this.#pauseMs);
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
  }

  #goOn(): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  #setAside(patch: Waiting, error: MoorlineError): void {
    this.#forget(patch);
    this.#bytes += patch.patch.length;
    patch.state = "refused";
    patch.refused = { code: error.code, message: error.message };
    this.#refused.push(patch);
    this.#write(patch);
    patch.reject(error);
    this.#lists = undefined;
    this.#host.onRefused(this.#refusal(patch));
    this.#host.onChange();
  }

  #refusal(patch: Waiting): RefusedPatch {
    const { code, message } = patch.refused ?? { code: "unknown", message: "" };
    const take = (): boolean => !this.#isClosed && patch.state === "refused" && this.#forget(patch);
    return Object.freeze({
      patch: patch.patch,
      error: new ChannelError(code, message),
      at: patch.at,
      retry: () => {
        if (!take()) return;
        delete patch.refused;
        Object.assign(patch, { state: "waiting", failures: 0 });
        this.#write(patch);
        this.#waiting.push(patch);
        this.#bytes += patch.patch.length;
        this.#host.onChange();
        this.#pump();
      },
      discard: () => {
        if (!take()) return;
        this.#erase(patch);
        this.#host.onChange();
        this.#releaseIdle();
      },
    });
  }

  /** Whether it was there. */
  #forget(patch: Waiting): boolean {
    const list = patch.state === "refused" ? this.#refused : this.#waiting;
    const at = list.indexOf(patch);
    if (at < 0) return false;
    list.splice(at, 1);
    this.#bytes -= patch.patch.length;
    if (list === this.#refused) this.#lists = undefined;
    else if (!this.#isOwn(patch)) this.#foreignWaiting--;
    return true;
  }

  #write(patch: Waiting): void {
    if (patch.sequence !== undefined) this.#onDisk((disk) => disk.update([kept(patch)]));
  }

  #erase({ sequence }: Waiting): void {
    if (sequence !== undefined) this.#onDisk((disk) => disk.remove([sequence]));
  }

  /** What is not done comes again with the next page, which changes nothing at the server. */
  #onDisk(change: (disk: Disk) => Promise<void>): void {
    void this.#open().then((disk) => disk && change(disk)).catch((error) => this.#lose(error));
  }
}

/** Whether the same may go through later: a connection, a timeout, a server in trouble. */
export function isPassing({ code, retryable }: MoorlineError): boolean {
  return retryable || ["unknown", "timeout", "closed", "connection_lost", "cancelled", "internal"].includes(code);
}

function lockOf(page: string): string {
  return `moorline-queue:${page}`;
}

/** What the platform has, where even to look at it may throw. */
function offered<T>(look: () => T): T | undefined {
  try {
    return look() ?? undefined;
  } catch {
    return undefined;
  }
}

/** 128 random bits, in hex. */
export function randomId(): string {
  return toHex(crypto.getRandomValues(new Uint8Array(16)));
}

function kept({ server, store, owner, page, operation, patch, at, sequence, refused }: Waiting): KeptPatch {
  return {
    server, store, owner, page, operation, patch, at, ...(sequence !== undefined && { sequence }), ...(refused && { refused }),
  };
}

function asError(thrown: unknown): MoorlineError {
  return MoorlineError.is(thrown) ? thrown : new ChannelError("internal", String(thrown), { cause: thrown });
}

function isFull(error: unknown): boolean {
  return (error as { name?: unknown } | null)?.name === "QuotaExceededError";
}

function full(cause?: unknown): MoorlineError {
  return new ChannelError("queue_full", "Too much waits for the server, and this patch was not taken", {
    retryable: true, cause, remedy: "Wait until store.current.pending falls, or look at store.refused.",
  });
}

function closed(): MoorlineError {
  return new ChannelError("closed", "The store was closed before the server confirmed the patch", {
    remedy: "What is on the disk is sent when the store is opened again.",
  });
}
