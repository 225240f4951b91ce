/**
 * A store as it is said to be, without a server: a log in memory, connections that are cut, and pages that vanish.
 *
 * Nothing moves by itself: whoever tests says when the next message arrives (`server.step`), so that every order can be
 * had, and had again.
 */
import { Listeners } from "../dist/listeners.js";
import { MoorlineError } from "../dist/errors.js";
import { getValue, putValue } from "../dist/value.js";
import { PatchQueue, randomId } from "../dist/queue.js";
import { toHex } from "../dist/hash.js";

/** Lets everything happen that is due: promises, and IndexedDB in memory, which takes its turns by `setImmediate`. */
export async function settle(turns = 30) {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Numbers from 0 to 1 that a seed decides (mulberry32). */
export function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const position = ({ epoch, offset, tag }) => `${epoch}.${offset}.${tag}`;
const START = { offset: 0, tag: "0" };

export class FakeServer {
  epoch = randomId();
  entries = [];
  /** The newest one and the one before it; what the latter covers is gone from the log. */
  snapshots = [];
  trimmed = START;
  keys = new Map();
  values = new Map();
  stores = new Set();
  /** Says what it does not take: a code, or nothing. */
  refuses = () => undefined;

  get head() { return this.entries.at(-1) ?? this.snapshots.at(-1)?.mark ?? this.trimmed; }

  /** The next message of this store arrives, one way or the other. Whether there was one. */
  step(store) {
    const request = store.outgoing.shift();
    if (request) {
      if (!request.isCancelled) store.incoming.push(this.#answer(store, request));
      return true;
    }
    const message = store.incoming.shift();
    if (message) store.receive(message);
    return message !== undefined;
  }

  /** Until nothing is on its way any more, not even to and from the disk. */
  async run(stores = [...this.stores]) {
    for (let quiet = 0; quiet < 3;) {
      let moved = false;
      for (const store of stores) while (this.step(store)) moved = true;
      await settle();
      quiet = moved ? 0 : quiet + 1;
    }
  }

  #answer(store, { id, what, data, target, key }) {
    const code = this.refuses({ what, data, store });
    if (code) return { id, failure: new MoorlineError(code) };
    switch (what) {
      case "append": return { id, result: this.append(data, store.session, `${store.subject}/${key}`) };
      case "snapshot": return this.#keepSnapshot(id, data, target);
      case "keep": return this.values.set(toHex(target), data) && { id };
      case "value": {
        const result = this.values.get(toHex(target));
        return result ? { id, result } : { id, failure: new MoorlineError("no_such_value") };
      }
    }
  }

  append(data, author = "server", key = randomId()) {
    if (!this.keys.has(key)) {
      const entry = { epoch: this.epoch, offset: this.head.offset + 1, tag: randomId(), data, author, key };
      this.entries.push(entry);
      this.keys.set(key, position(entry));
      for (const store of this.stores) if (store.isConnected) store.incoming.push({ update: entry, before: false });
    }
    return this.keys.get(key);
  }

  #keepSnapshot(id, data, covers) {
    const fail = (code) => ({ id, failure: new MoorlineError(code) });
    const mark = this.entries.find((entry) => position(entry) === covers);
    const newest = this.snapshots.at(-1);
    if (newest && position(newest.mark) === covers) return fail("superseded_snapshot");
    if (!mark) return fail("unknown_position");
    if (newest && mark.offset <= newest.mark.offset) return fail("superseded_snapshot");
    this.snapshots = [...this.snapshots.slice(-1), { mark, data }];
    if (this.snapshots.length === 2) {
      this.trimmed = this.snapshots[0].mark;
      this.entries = this.entries.filter(({ offset }) => offset > this.trimmed.offset);
    }
    return { id };
  }

  /** What a store is told that has seen everything up to `since`. */
  open(store, since) {
    const [epoch, offset] = since?.split(".") ?? [];
    const seen = Number(offset);
    const isThere = seen === 0 ? this.trimmed.offset === 0 : seen === this.trimmed.offset
      || this.entries.some((entry) => position(entry) === since);
    const gap = since === undefined ? undefined
      : epoch !== this.epoch ? "recreated"
      : seen < this.trimmed.offset ? "trimmed"
      : isThere ? undefined : "diverged";
    const goesOn = since !== undefined && gap === undefined;
    const snapshot = goesOn ? undefined : this.snapshots.at(-1);
    const from = goesOn ? seen : snapshot?.mark.offset ?? 0;
    store.incoming.push({ opened: { recovered: goesOn, gap, position: position({ epoch: this.epoch, ...START }), isNew: !goesOn && !snapshot } });
    if (snapshot) store.incoming.push({ snapshot });
    for (const entry of this.entries) if (entry.offset > from) store.incoming.push({ update: entry, before: true });
    store.incoming.push({ synced: true });
  }

  /** It comes back with what was on its disk. */
  restart() {
    for (const store of this.stores) store.lose();
  }

  /** It comes back with what was on its disk some entries ago. */
  rollBack(entries) {
    this.restart();
    for (const { key } of this.entries.splice(Math.max(0, this.entries.length - entries))) this.keys.delete(key);
  }

  /** It comes back with nothing. */
  wipe() {
    this.restart();
    Object.assign(this, { epoch: randomId(), entries: [], snapshots: [], trimmed: START, keys: new Map(), values: new Map() });
  }
}

/** One page's store, as `client.store` gives it. */
export class FakeStore {
  name = "notes";
  subject = "ann";
  isConnected = false;
  outgoing = [];
  incoming = [];
  members = { current: [], subscribe: () => () => {} };
  events = { update: new Listeners(), gap: new Listeners(), refused: new Listeners(), state: new Listeners() };
  #waiting = new Map();
  #own = new Set();
  #nextId = 1;
  #isDead = false;

  constructor(server, { offline, indexedDB, locks, subject = "ann" } = {}) {
    Object.assign(this, { server, subject, position: undefined });
    server.stores.add(this);
    if (offline) {
      this.queue = new PatchQueue("ws://test/moorline", this.name, {
        send: (patch, operation) => this.#request({ what: "append", data: patch, key: operation }),
        onChange: () => this.#set({}),
        onRefused: (refused) => this.events.refused.emit(refused),
        onMemory: () => {},
        indexedDB,
        locks,
        broadcast: undefined,
      });
    }
    this.current = { status: "opening", recovered: undefined, gap: undefined, error: undefined, synced: false, ...this.#counted() };
  }

  #counted() {
    return { pending: this.queue?.pending ?? this.#waiting.size, offline: this.queue?.where ?? "off" };
  }

  #set(changed) {
    if (this.#isDead) return;
    this.current = Object.freeze({ ...this.current, ...changed, ...this.#counted() });
    this.events.state.emit(this.current);
  }

  subscribe(listener) { return this.events.state.add(listener); }
  on(event, listener) { return this.events[event].add(listener); }
  get refused() { return this.queue?.refused ?? []; }

  // The network.

  connect() {
    if (this.isConnected || this.#isDead) return;
    this.isConnected = true;
    this.session = randomId();
    this.server.open(this, this.position);
    // What was carried over: the server knows by the key what it has done.
    this.outgoing.push(...this.#waiting.values());
    this.queue?.start(this.subject);
  }

  lose() {
    if (!this.isConnected) return;
    this.isConnected = false;
    this.outgoing = [];
    this.incoming = [];
    this.queue?.stop();
    this.#set({ status: "opening", synced: false });
  }

  /** The page is gone, from one moment to the next. */
  crash() {
    this.lose();
    this.#isDead = true;
    this.#waiting.clear();
    this.server.stores.delete(this);
    for (const listeners of Object.values(this.events)) listeners.emit = () => {};
  }

  close() {
    if (this.current.status === "closed") return;
    this.lose();
    this.queue?.close();
    for (const { reject } of this.#waiting.values()) reject(new MoorlineError("closed"));
    this.#waiting.clear();
    this.server.stores.delete(this);
    this.#set({ status: "closed" });
  }

  receive({ opened, update, before, snapshot, synced, id, result, failure }) {
    if (opened) {
      this.position = opened.isNew ? opened.position : this.position;
      this.#set({ status: "open", synced: false, recovered: opened.recovered, gap: opened.gap });
      if (opened.gap) this.events.gap.emit(opened.gap);
    } else if (update) {
      this.position = position(update);
      // Its own comes back once; told again from the beginning, it is as any other.
      if (this.#own.delete(update.key)) return;
      const from = { member: update.author, subject: "" };
      this.events.update.emit({ kind: "patch", data: update.data, from, position: this.position, at: 0, recovered: before });
    } else if (snapshot) {
      this.position = position(snapshot.mark);
      this.events.update.emit({ kind: "snapshot", data: snapshot.data, position: this.position, at: 0 });
    } else if (synced) {
      this.#set({ synced: true });
    } else {
      const waiting = this.#waiting.get(id);
      if (!this.#waiting.delete(id)) return;
      if (failure) waiting.reject(failure);
      else waiting.resolve(result);
      this.#set({});
    }
  }

  #request(request) {
    return new Promise((resolve, reject) => {
      if (this.#isDead) return;
      const waiting = { ...request, id: this.#nextId++, resolve, reject };
      this.#waiting.set(waiting.id, waiting);
      if (this.isConnected) this.outgoing.push(waiting);
      if (!this.queue) this.#set({});
    });
  }

  // As the page uses it.

  append(patch, { idempotencyKey = randomId() } = {}) {
    if (this.current.status === "closed") return Promise.reject(new MoorlineError("closed"));
    this.#own.add(`${this.subject}/${idempotencyKey}`);
    if (this.queue) return this.queue.append(patch, idempotencyKey);
    return this.#request({ what: "append", data: new Uint8Array(patch), key: idempotencyKey });
  }

  snapshot(data, covers) { return this.#request({ what: "snapshot", data, target: covers }); }
  putValue(value) { return putValue(this.#shelf, value); }
  value(id, { maxBytes } = {}) { return getValue(this.#shelf, id, maxBytes); }

  get #shelf() {
    return {
      keep: (target, data) => this.#request({ what: "keep", target, data }),
      fetch: (target) => this.#request({ what: "value", target }),
    };
  }
}

/** The Web Locks of one origin. */
export class FakeLocks {
  #held = new Map();
  /** Who waits for a lock, by its name. */
  #waiting = new Map();

  #letGo(name, lock) {
    if (this.#held.get(name) !== lock) return;
    this.#held.delete(name);
    this.#waiting.get(name)?.shift()?.();
  }

  /** What one page sees of them. */
  page() {
    const own = new Map();
    let isGone = false;
    const request = async (name, { ifAvailable, signal }, callback) => {
      // What a page asked for when it vanished is answered to nobody.
      if (isGone) return new Promise(() => {});
      if (this.#held.has(name)) {
        if (ifAvailable) return callback(null);
        await new Promise((resolve) => this.#waiting.set(name, [...(this.#waiting.get(name) ?? []), resolve]));
        return signal?.aborted || isGone ? this.#waiting.get(name)?.shift()?.() : request(name, { ifAvailable, signal }, callback);
      }
      const lock = { name };
      this.#held.set(name, lock);
      own.set(name, lock);
      try {
        return await callback(lock);
      } finally {
        this.#letGo(name, lock);
      }
    };
    return {
      request,
      crash: () => {
        isGone = true;
        for (const [name, lock] of own) this.#letGo(name, lock);
      },
    };
  }
}
