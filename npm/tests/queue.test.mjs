import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { IDBFactory, IDBObjectStore } from "fake-indexeddb";

import { MoorlineError } from "../dist/errors.js";
import { MOST_BYTES, MOST_PATCHES, PatchQueue } from "../dist/queue.js";
import { FakeLocks, settle } from "./fake-store.mjs";

const patch = (text) => new TextEncoder().encode(text);
const text = (bytes) => new TextDecoder().decode(bytes);

/** A browser: what its pages share. */
function browser({ locks = new FakeLocks(), indexedDB = new IDBFactory() } = {}) {
  const closings = [];
  /** What the platform's does, within this browser. */
  const channels = new Set();
  class Broadcast {
    constructor(name) {
      this.name = name;
      channels.add(this);
    }
    postMessage(data) {
      for (const other of channels) if (other !== this && other.name === this.name) setImmediate(() => other.onmessage({ data }));
    }
    close() { channels.delete(this); }
  }
  return {
    indexedDB,
    /** A page with a queue, and a server that answers when the test says so. */
    page({ store = "notes", server = "ws://test/moorline", ...more } = {}) {
      const pageLocks = locks?.page();
      const page = {
        sent: [], answers: [], refused: [], lost: [], changes: 0,
        crash: () => {
          page.isGone = true;
          page.channel?.close();
          pageLocks?.crash();
        },
        /** Answers the oldest that waits: with its position, or a failure. */
        answer: async (outcome = `p${page.sent.length}`) => {
          const { resolve, reject } = page.answers.shift();
          if (outcome instanceof Error) reject(outcome);
          else resolve(outcome);
          await settle();
        },
        get texts() { return page.sent.map(({ bytes }) => text(bytes)); },
      };
      page.queue = new PatchQueue(server, store, {
        send: (bytes, operation, signal) => new Promise((resolve, reject) => {
          if (page.isGone) return;
          const answer = { resolve, reject };
          page.sent.push({ bytes, operation });
          page.answers.push(answer);
          signal.addEventListener("abort", () => {
            page.answers = page.answers.filter((other) => other !== answer);
            reject(signal.reason);
          });
        }),
        onChange: () => page.changes++,
        onRefused: (refused) => page.refused.push(refused),
        onMemory: (reason) => page.lost.push(reason),
        indexedDB,
        locks: pageLocks,
        broadcast: class extends Broadcast {
          constructor(name) {
            super(name);
            page.channel = this;
          }
        },
        ...more,
      });
      closings.push(() => page.queue.close());
      return page;
    },
    async kept() {
      const database = await new Promise((resolve, reject) => {
        const request = indexedDB.open("moorline");
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
      const all = await new Promise((resolve) => {
        const request = database.transaction("patches").objectStore("patches").getAll();
        request.onsuccess = () => resolve(request.result);
      });
      database.close();
      return all.map((kept) => text(kept.patch));
    },
  };
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());

const append = (page, ...texts) => texts.map((each) => {
  const appended = page.queue.append(patch(each));
  appended.catch(() => {});
  return appended;
});

test("patches are sent in order when there is a connection, and forgotten when they are confirmed", async () => {
  const home = browser();
  const page = home.page();
  const [first, second] = append(page, "a", "b");
  await settle();
  assert.deepEqual([page.texts, page.queue.pending, page.queue.where], [[], 2, "disk"]);
  assert.deepEqual(await home.kept(), ["a", "b"]);

  page.queue.start("ann");
  await settle();
  assert.deepEqual(page.texts, ["a", "b"]);
  await page.answer("p1");
  assert.equal(await first, "p1");
  assert.deepEqual([page.queue.pending, await home.kept()], [1, ["b"]]);
  await page.answer("p2");
  assert.equal(await second, "p2");
  assert.deepEqual([page.queue.pending, await home.kept()], [0, []]);
  assert.ok(page.changes >= 4);
});

test("a patch is on the disk before it is sent", async () => {
  const home = browser();
  const page = home.page({ send: async () => (page.keptThen ??= await home.kept(), "p") });
  page.queue.start("ann");
  await settle();
  await page.queue.append(patch("a"));
  assert.deepEqual(page.keptThen, ["a"]);
});

test("what a page left is sent by the next one first, under the same operations", async () => {
  const home = browser();
  const before = home.page();
  append(before, "a", "b");
  before.queue.start("ann");
  await settle();
  before.crash();

  const after = home.page();
  append(after, "c");
  await settle();
  after.queue.start("ann");
  await settle();
  assert.deepEqual(after.texts, ["a", "b", "c"]);
  assert.deepEqual(after.sent.slice(0, 2).map((each) => each.operation), before.sent.map((each) => each.operation));
  for (const _ of "abc") await after.answer();
  assert.deepEqual(await home.kept(), []);
});

// sds dropped what was sent just before a connection was lost, until somebody synced everything.
test("regression: what was on its way when a page vanished is not lost, and has one entry", async () => {
  const home = browser();
  const log = new Map();
  const before = home.page();
  append(before, "a", "b", "c");
  before.queue.start("ann");
  await settle();
  // The server has done two of them, and one answer arrives.
  for (const { bytes, operation } of before.sent.slice(0, 2)) log.set(operation, text(bytes));
  await before.answer();
  before.crash();

  const after = home.page({ send: async (bytes, operation) => (log.set(operation, text(bytes)), "p") });
  after.queue.start("ann");
  await settle(40);
  assert.deepEqual([...log.values()], ["a", "b", "c"]);
  assert.deepEqual(await home.kept(), []);
});

test("a page leaves alone what belongs to one that is there", async () => {
  const home = browser();
  const [one, other] = [home.page(), home.page()];
  append(one, "a");
  append(other, "b");
  await settle();
  for (const page of [one, other]) page.queue.start("ann");
  await settle();
  assert.deepEqual([one.texts, other.texts], [["a"], ["b"]]);
  one.crash();
  other.queue.stop();
  other.queue.start("ann");
  await settle();
  assert.deepEqual(other.texts, ["b", "a", "b"], "it took over what nobody else would send, and sends again what was called back");
});

test("regression: a page that stays takes over from one that goes, on the connection that it has", async () => {
  const home = browser();
  const [early, one, late] = [home.page(), home.page(), home.page()];
  early.queue.start("ann");
  await settle();
  append(one, "a", "b");
  await settle();
  late.queue.start("ann");
  await settle();
  assert.deepEqual([early.texts, late.texts], [[], []], "it is there");
  one.crash();
  await settle(60);
  const heirs = [early, late].filter((page) => page.sent.length > 0);
  assert.equal(heirs.length, 1);
  const [heir] = heirs;
  assert.deepEqual(heir.texts, ["a", "b"]);
  // Who took over may go as well.
  await heir.answer();
  heir.crash();
  await settle(60);
  const last = heir === early ? late : early;
  assert.deepEqual(last.texts, ["b"]);
  await last.answer();
  assert.deepEqual(await home.kept(), []);
});

test("regression: what was just appended when a store was closed is sent by one that is open already", async () => {
  const home = browser();
  const [one, other] = [home.page(), home.page()];
  other.queue.start("ann");
  await settle();
  append(one, "a", "b");
  one.queue.close();
  await settle(60);
  assert.deepEqual(other.texts, ["a", "b"]);
});

test("without a connection a page takes over from one that has gone when it has one", async () => {
  const home = browser();
  const [one, other] = [home.page(), home.page()];
  other.queue.start("ann");
  await settle();
  append(one, "a");
  await settle();
  other.queue.stop();
  one.crash();
  await settle();
  assert.deepEqual(other.texts, []);
  other.queue.start("ann");
  await settle();
  assert.deepEqual(other.texts, ["a"]);
});

test("of several pages one takes over what another left", async () => {
  const home = browser();
  const gone = home.page();
  append(gone, "a");
  await settle();
  gone.crash();
  const heirs = [home.page(), home.page(), home.page()];
  for (const heir of heirs) heir.queue.start("ann");
  await settle(40);
  assert.deepEqual(heirs.flatMap((heir) => heir.texts), ["a"]);
});

test("without Web Locks pages send each other's patches, under one operation", async () => {
  const home = browser({ locks: null });
  const [one, other] = [home.page(), home.page()];
  append(one, "a");
  await settle();
  for (const page of [one, other]) page.queue.start("ann");
  await settle();
  assert.deepEqual([one.texts, other.texts], [["a"], ["a"]]);
  assert.equal(one.sent[0].operation, other.sent[0].operation);
  for (const page of [other, one]) await page.answer();
  assert.deepEqual([one.queue.pending, other.queue.pending, await home.kept()], [0, 0, []]);
});

test("a patch is sent as who wrote it, and as nobody else", async () => {
  const home = browser();
  const page = home.page();
  append(page, "before anybody was known");
  await settle();
  page.queue.start("ann");
  await settle();
  await page.answer();
  page.queue.stop();
  append(page, "ann's");
  await settle();
  page.queue.start("bob");
  append(page, "bob's");
  await settle();
  assert.deepEqual(page.texts.slice(1), ["bob's"]);
  page.queue.close();
  await settle();

  const next = home.page();
  next.queue.start("ann");
  await settle();
  assert.deepEqual(next.texts, ["ann's"]);
});

test("what was written before anybody was known belongs to the first who sends it", async () => {
  const home = browser();
  const before = home.page();
  append(before, "a");
  await settle();
  before.crash();
  const ann = home.page();
  ann.queue.start("ann");
  await settle();
  assert.deepEqual(ann.texts, ["a"]);
  ann.crash();
  const bob = home.page();
  bob.queue.start("bob");
  await settle();
  assert.deepEqual(bob.texts, []);
});

test("what was taken over is not taken over again", async () => {
  const home = browser();
  const gone = home.page();
  append(gone, "a", "b");
  await settle();
  gone.crash();
  const heir = home.page();
  heir.queue.start("ann");
  await settle();
  heir.queue.stop();
  heir.queue.start("ann");
  await settle();
  assert.deepEqual([heir.queue.pending, heir.texts], [2, ["a", "b", "a", "b"]], "sent again, and there once");
});

test("a page without patches holds no lock", async () => {
  const held = new Set();
  const locks = { page: () => ({
    request: async (name, _options, callback) => {
      held.add(name);
      await callback({ name });
      held.delete(name);
    },
    crash: () => {},
  }) };
  const home = browser({ locks });
  const gone = home.page();
  append(gone, "a");
  await settle();
  gone.crash();
  held.clear();
  const page = home.page();
  append(page, "b");
  await settle();
  assert.equal(held.size, 1);
  page.queue.start("ann");
  await settle();
  assert.equal(held.size, 2);
  await page.answer();
  await page.answer();
  assert.equal(held.size, 0);
  page.queue.stop();
  page.queue.start("ann");
  await settle();
  assert.equal(held.size, 0);
});

test("stores and servers do not mix", async () => {
  const home = browser();
  const pages = [home.page(), home.page({ store: "other" }), home.page({ server: "ws://else/moorline" })];
  for (const [n, page] of pages.entries()) append(page, `${n}`);
  await settle();
  for (const page of pages) page.crash();
  const next = home.page({ store: "other" });
  next.queue.start("ann");
  await settle();
  assert.deepEqual(next.texts, ["1"]);
});

test("more than it holds is not taken, and room is made by confirming", async () => {
  const page = browser().page({ indexedDB: undefined });
  for (let n = 0; n < MOST_PATCHES; n++) append(page, "x");
  await assert.rejects(page.queue.append(patch("y")), { code: "queue_full", retryable: true });
  assert.equal(page.queue.pending, MOST_PATCHES);
  page.queue.start("ann");
  await settle();
  await page.answer();
  append(page, "z");
  assert.equal(page.queue.pending, MOST_PATCHES);
});

test("bytes are counted, too, and the last patch may stand out", async () => {
  const page = browser().page({ indexedDB: undefined });
  append(page, "x");
  page.queue.append(new Uint8Array(MOST_BYTES)).catch(() => {});
  await assert.rejects(page.queue.append(patch("y")), { code: "queue_full" });
});

test("where IndexedDB is missing or denied, patches wait in memory, and it says so", async () => {
  const without = browser().page({ indexedDB: undefined });
  assert.equal(without.queue.where, "memory");
  const denied = browser().page({ indexedDB: { open: () => { throw new DOMException("no", "SecurityError"); } } });
  const silent = browser().page({ indexedDB: { open: () => ({}) } });
  for (const page of [without, denied, silent]) {
    const [appended] = append(page, "a");
    page.queue.start("ann");
    await settle();
    if (page === silent) mock.timers.tick(5_000);
    await settle();
    assert.deepEqual([page.texts, page.queue.where], [["a"], "memory"]);
    await page.answer("p1");
    assert.equal(await appended, "p1");
  }
  assert.deepEqual([without, denied, silent].map((page) => page.lost.length), [0, 1, 1]);
});

test("when the browser takes the database away, it goes on in memory", async () => {
  const home = browser();
  const page = home.page();
  append(page, "a");
  await settle();
  // A later version of this package in another tab: it must not be held up.
  const upgraded = await new Promise((resolve, reject) => {
    const request = home.indexedDB.open("moorline", 2);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  assert.deepEqual([page.queue.where, page.lost.length], ["memory", 1]);
  append(page, "b");
  page.queue.start("ann");
  await settle();
  assert.deepEqual(page.texts, ["a", "b"]);
  upgraded.close();
  // And one that comes later finds a layout that it does not know.
  const later = home.page();
  append(later, "c");
  await settle();
  assert.deepEqual([later.queue.where, later.lost[0].name], ["memory", "VersionError"]);
});

test("what the browser has no room for is not taken", async () => {
  const home = browser();
  const page = home.page();
  append(page, "a");
  await settle();
  const full = mock.method(IDBObjectStore.prototype, "add", () => { throw new DOMException("full", "QuotaExceededError"); });
  await assert.rejects(page.queue.append(patch("b")), { code: "queue_full" });
  full.mock.restore();
  append(page, "c");
  await settle();
  assert.deepEqual([page.queue.pending, page.queue.where, await home.kept()], [2, "disk", ["a", "c"]]);
});

test("what the server refuses is told once and set aside, and holds up nothing", async () => {
  const home = browser();
  const page = home.page();
  const [refused, taken] = append(page, "a", "b");
  page.queue.start("ann");
  await settle();
  await page.answer(new MoorlineError("forbidden", "Not yours"));
  await page.answer("p2");
  await assert.rejects(refused, { code: "forbidden" });
  assert.equal(await taken, "p2");
  assert.deepEqual([page.queue.pending, page.refused.length, await home.kept()], [0, 1, ["a"]]);
  page.crash();

  const next = home.page();
  next.queue.start("ann");
  await settle();
  assert.deepEqual([next.texts, next.refused, next.queue.pending], [[], [], 0], "told once");
  const [kept] = next.queue.refused;
  assert.deepEqual([text(kept.patch), kept.error.code, kept.error.message], ["a", "forbidden", "Not yours"]);
  kept.retry();
  kept.retry();
  await settle();
  assert.deepEqual([next.texts, next.queue.refused.length], [["a"], 0]);
  await next.answer(new MoorlineError("forbidden"));
  assert.equal(next.refused.length, 1);
  next.queue.refused[0].discard();
  await settle();
  assert.deepEqual([next.queue.refused, await home.kept()], [[], []]);
});

test("after a failure that passes it waits, longer each time", async () => {
  const page = browser().page();
  const [appended] = append(page, "a");
  page.queue.start("ann");
  await settle();
  for (const [code, pauseMs] of [["timeout", 500], ["unknown", 1_000], ["backpressure", 2_000], ["connection_lost", 4_000]]) {
    await page.answer(new MoorlineError(code));
    mock.timers.tick(pauseMs - 1);
    await settle();
    assert.equal(page.answers.length, 0, `after ${code} it waits ${pauseMs} ms`);
    mock.timers.tick(1);
    await settle();
    assert.equal(page.answers.length, 1);
  }
  await page.answer("p9");
  assert.equal(await appended, "p9");
  assert.equal(new Set(page.sent.map(({ operation }) => operation)).size, 1);
});

test("nothing follows one that failed, until it is sent again", async () => {
  const page = browser().page();
  append(page, "a", "b");
  page.queue.start("ann");
  await settle();
  await page.answer(new MoorlineError("unknown"));
  append(page, "c");
  await settle();
  await page.answer(new MoorlineError("unknown"));
  assert.deepEqual(page.texts.splice(0), ["a", "b"]);
  mock.timers.tick(500);
  await settle();
  assert.deepEqual(page.texts.slice(2), ["a", "b", "c"]);
});

test("a patch that the server fails on every time is set aside", async () => {
  const page = browser().page();
  const [appended] = append(page, "a");
  page.queue.start("ann");
  for (let failure = 0; failure < 8; failure++) {
    await settle();
    await page.answer(new MoorlineError("internal"));
    mock.timers.tick(30_000);
  }
  await assert.rejects(appended, { code: "internal" });
  assert.equal(page.refused.length, 1);
});

test("a new connection ends the pause", async () => {
  const page = browser().page();
  append(page, "a");
  page.queue.start("ann");
  await settle();
  await page.answer(new MoorlineError("unknown"));
  page.queue.stop();
  page.queue.start("ann");
  await settle();
  assert.deepEqual(page.texts, ["a", "a"]);
});

test("without a connection nothing is sent", async () => {
  const page = browser().page();
  page.queue.start("ann");
  page.queue.stop();
  append(page, "a");
  await settle();
  assert.deepEqual(page.texts, []);
});

test("closing settles everything, and keeps what was just appended", async () => {
  const home = browser();
  const page = home.page();
  const appended = append(page, "a", "b");
  page.queue.close();
  for (const each of appended) await assert.rejects(each, { code: "closed" });
  await assert.rejects(page.queue.append(patch("c")), { code: "closed" });
  page.queue.start("ann");
  await settle();
  assert.deepEqual([page.texts, await home.kept()], [[], ["a", "b"]]);
  const next = home.page();
  next.queue.start("ann");
  await settle();
  assert.deepEqual(next.texts, ["a", "b"]);
});

test("whoever appends from within a callback is served", async () => {
  const home = browser();
  const page = home.page({
    onChange: () => { if (page?.queue.pending === 0 && page.sent.length === 1) append(page, "b"); },
  });
  append(page, "a")[0].then(() => append(page, "c"));
  page.queue.start("ann");
  await settle();
  await page.answer();
  await settle();
  assert.deepEqual(page.texts, ["a", "b", "c"]);
});

test("bytes are the caller's again after append", async () => {
  const home = browser();
  const page = home.page();
  const large = new Uint8Array(1_000);
  const view = large.subarray(10, 12).fill(65);
  page.queue.append(view).catch(() => {});
  view.fill(66);
  await settle();
  assert.deepEqual(await home.kept(), ["AA"]);
});

const owner = (subject) => JSON.stringify(["", subject]);

// The core sends what has a key again in the next session, whoever the client is by then: Ann's patch went out as Bob's.
test("regression: what is under way when the connection goes is called back, and sent again as who wrote it", async () => {
  const home = browser();
  const page = home.page();
  const [appended] = append(page, "ann's");
  page.queue.start(owner("ann"));
  await settle();
  assert.equal(page.answers.length, 1);
  page.queue.stop();
  await settle();
  assert.equal(page.answers.length, 0, "it is called back");
  page.queue.start(owner("bob"));
  await settle();
  assert.deepEqual([page.texts, page.queue.pending], [["ann's"], 0], "bob waits for nothing");
  page.queue.start(owner("ann"));
  await settle();
  assert.deepEqual(page.texts, ["ann's", "ann's"]);
  assert.equal(new Set(page.sent.map(({ operation }) => operation)).size, 1);
  await page.answer("p1");
  assert.equal(await appended, "p1");
});

test("a renewed token calls nothing back", async () => {
  const page = browser().page();
  append(page, "a");
  page.queue.start(owner("ann"));
  await settle();
  page.queue.start(owner("ann"));
  await settle();
  assert.deepEqual([page.texts, page.answers.length], [["a"], 1]);
});

test("what others left is shown by whom, and goes when it is discarded", async () => {
  const home = browser();
  const gone = home.page();
  gone.queue.start(owner("ann"));
  append(gone, "a", "b");
  await settle();
  await gone.answer(new MoorlineError("forbidden"));
  gone.crash();
  const page = home.page();
  append(page, "before anybody was known");
  page.queue.start(owner("bob"));
  await settle();
  const shown = () => page.queue.withheld.map(({ tenant, subject, patches }) => [tenant, subject, patches]);
  assert.deepEqual([shown(), page.queue.pending, page.queue.refused], [[["", "ann", 2]], 1, []]);
  assert.equal(page.queue.withheld, page.queue.withheld, "the same until it changes");
  const changes = page.changes;
  page.queue.withheld[0].discard();
  assert.deepEqual(shown(), []);
  await settle();
  assert.deepEqual([shown(), await home.kept()], [[], ["before anybody was known"]]);
  assert.ok(page.changes > changes);
  await page.answer("p1");
  const next = home.page();
  next.queue.start(owner("ann"));
  await settle();
  assert.deepEqual([next.texts, next.queue.refused], [[], []]);
});

test("who signs in on the same page sees what the one before wrote there, and can discard it", async () => {
  for (const indexedDB of [new IDBFactory(), undefined]) {
    const home = browser({ indexedDB });
    const page = home.page({ indexedDB });
    page.queue.start(owner("ann"));
    await settle();
    const [appended] = append(page, "ann's");
    await settle();
    page.queue.start(owner("bob"));
    await settle();
    assert.deepEqual([page.queue.withheld[0].subject, page.queue.withheld[0].patches, page.queue.pending], ["ann", 1, 0]);
    page.queue.withheld[0].discard();
    await assert.rejects(appended, { code: "cancelled" });
    await settle();
    page.queue.start(owner("ann"));
    await settle();
    assert.deepEqual([page.texts, page.queue.withheld, page.queue.pending], [["ann's"], [], 0], "sent once, and called back");
  }
});

test("what another page that is open has written is not discarded", async () => {
  const home = browser();
  const [ann, bob] = [home.page(), home.page()];
  ann.queue.start(owner("ann"));
  append(ann, "a");
  await settle();
  bob.queue.start(owner("bob"));
  await settle();
  bob.queue.withheld[0].discard();
  await settle();
  assert.deepEqual([bob.queue.withheld[0].patches, await home.kept()], [1, ["a"]]);
});

test("the refused are the same list until it changes", async () => {
  const page = browser().page();
  append(page, "a", "b");
  page.queue.start("ann");
  await settle();
  const none = page.queue.refused;
  await page.answer(new MoorlineError("forbidden"));
  const one = page.queue.refused;
  assert.notEqual(one, none);
  append(page, "c");
  assert.equal(page.queue.refused, one);
  one[0].discard();
  assert.deepEqual(page.queue.refused, []);
});

// Its first patch had been put before the second was refused, and went to the disk although both were turned away.
test("regression: of patches that the disk does not take together it keeps none", async () => {
  const home = browser();
  const page = home.page();
  append(page, "a");
  await settle();
  const { add } = IDBObjectStore.prototype;
  let count = 0;
  const failing = mock.method(IDBObjectStore.prototype, "add", function (...args) {
    if (++count === 2) throw new DOMException("full", "QuotaExceededError");
    return add.apply(this, args);
  });
  const both = append(page, "b", "c");
  for (const each of both) await assert.rejects(each, { code: "queue_full" });
  failing.mock.restore();
  assert.deepEqual([page.queue.pending, await home.kept()], [1, ["a"]]);
});
