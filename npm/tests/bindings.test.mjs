import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, mock, test } from "node:test";

import { LoroDoc } from "loro-crdt";
import * as Y from "yjs";

import { LARGEST_PATCH } from "../dist/binding.js";
import { sha256 } from "../dist/hash.js";
import { bindLoro } from "../dist/loro.js";
import { bindYjs } from "../dist/yjs.js";
import { FakeServer, FakeStore, settle } from "./fake-store.mjs";

const kinds = {
  Yjs: {
    bind: bindYjs,
    make: () => new Y.Doc(),
    insert: (doc, text, at = 0) => doc.getText("text").insert(at, text),
    remove: (doc, at, length) => doc.getText("text").delete(at, length),
    text: (doc) => doc.getText("text").toString(),
    state: (doc) => Y.encodeStateAsUpdate(doc),
    apply: (doc, update) => Y.applyUpdate(doc, update, "another provider"),
    observe: (doc, listener) => doc.getText("text").observe((_event, { local }) => { if (!local) listener(); }),
  },
  Loro: {
    bind: bindLoro,
    make: () => new LoroDoc(),
    insert: (doc, text, at = 0) => { doc.getText("text").insert(at, text); doc.commit(); },
    remove: (doc, at, length) => { doc.getText("text").delete(at, length); doc.commit(); },
    text: (doc) => doc.getText("text").toString(),
    state: (doc) => doc.export({ mode: "update" }),
    apply: (doc, update) => doc.import(update),
    observe: (doc, listener) => doc.subscribe(({ by }) => { if (by === "import") listener(); }),
  },
};

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());

/** Hashes are made elsewhere, and take their time. */
async function thoroughly(server) {
  for (let round = 0; round < 10; round++) {
    await server.run();
    await sha256(new Uint8Array(2 * LARGEST_PATCH));
  }
}

for (const [name, kind] of Object.entries(kinds)) {
  /** A page over the server, which is connected. */
  function page(server, { doc = kind.make(), isConnected = true, ...options } = {}) {
    const errors = [];
    const store = new FakeStore(server);
    const binding = kind.bind(doc, store, { onError: (error) => errors.push(error), ...options });
    if (isConnected) store.connect();
    return { doc, store, binding, errors, text: () => kind.text(doc) };
  }

  test(`${name}: what happens in one task is one patch, and nothing is sent back`, async () => {
    const server = new FakeServer();
    const [one, other] = [page(server), page(server)];
    await server.run();
    for (const each of "olleh") kind.insert(one.doc, each);
    assert.equal(one.binding.current.pending, 1);
    await server.run();
    assert.deepEqual([one.text(), other.text(), server.entries.length], ["hello", "hello", 1]);
    assert.deepEqual([one.binding.current.pending, other.binding.current.pending], [0, 0]);
    kind.insert(other.doc, "!", 5);
    await server.run();
    assert.deepEqual([one.text(), server.entries.length], ["hello!", 2]);
  });

  test(`${name}: what is edited in answer to somebody else's edit goes out`, async () => {
    const server = new FakeServer();
    const [one, other] = [page(server), page(server)];
    kind.observe(other.doc, () => { if (!other.text().endsWith("!")) kind.insert(other.doc, "!", other.text().length); });
    await server.run();
    kind.insert(one.doc, "hello");
    await server.run();
    assert.deepEqual([one.text(), other.text()], ["hello!", "hello!"]);
  });

  test(`${name}: synced when everything is there that was on the server, and rejected if that cannot be`, async () => {
    const server = new FakeServer();
    const first = page(server);
    kind.insert(first.doc, "hello");
    await server.run();
    const late = page(server);
    let text;
    const synced = late.binding.synced.then(() => (text = late.text()));
    await server.run();
    await synced;
    assert.equal(text, "hello");
    const lost = page(server, { isConnected: false });
    lost.store.close();
    await assert.rejects(lost.binding.synced, { code: "closed" });
    const destroyed = page(server);
    destroyed.binding.destroy();
    await assert.rejects(destroyed.binding.synced, { code: "closed" });
  });

  test(`${name}: a document that had something before sends what the server lacks, and no more`, async () => {
    const server = new FakeServer();
    const doc = kind.make();
    kind.insert(doc, "hello world");
    const first = page(server, { doc });
    await server.run();
    assert.equal(server.entries.length, 1);
    // The same again, as after a reload with the document kept elsewhere.
    first.store.close();
    const second = page(server, { doc });
    await server.run();
    assert.equal(server.entries.length, 1, "the server lacks nothing");
    second.store.close();
    // Only a deletion, while nothing was bound.
    kind.remove(doc, 5, 6);
    page(server, { doc });
    const late = page(server);
    await server.run();
    assert.equal(late.text(), "hello");
    assert.equal(server.entries.length, 2);
  });

  test(`${name}: another provider beside it loses nothing, and tells the server nothing twice`, async () => {
    const server = new FakeServer();
    const [first, kept] = [page(server), kind.make()];
    kind.insert(first.doc, "on the server ");
    await server.run();
    kind.apply(kept, kind.state(first.doc));
    const known = kind.state(kept);
    const second = page(server, { isConnected: false });
    kind.apply(second.doc, known);
    await settle();
    second.store.connect();
    await server.run();
    assert.equal(server.entries.length, 1, "it was there");
    kind.insert(kept, "only here ");
    kind.apply(second.doc, kind.state(kept));
    await settle();
    await server.run();
    assert.deepEqual([server.entries.length, first.text()], [2, "only here on the server "]);
  });

  test(`${name}: an update above the limit goes as a value, in a patch of some bytes`, async () => {
    const server = new FakeServer();
    const [one, other] = [page(server), page(server, { snapshotEvery: { bytes: 10 } })];
    await thoroughly(server);
    // Loro packs what repeats itself.
    const long = randomBytes(LARGEST_PATCH).toString("base64");
    kind.insert(one.doc, long);
    kind.insert(one.doc, "?");
    await thoroughly(server);
    assert.ok(other.text() === `?${long}`);
    assert.ok(server.entries[0].data.length < 100);
    // The snapshot, too.
    mock.timers.tick(2_000);
    await thoroughly(server);
    assert.ok(server.snapshots[0].data.length < 100);
    const late = page(server);
    await thoroughly(server);
    await late.binding.synced;
    assert.ok(late.text() === `?${long}`);
  });

  test(`${name}: a value that is gone is told, and this document never becomes the snapshot`, async () => {
    const server = new FakeServer();
    const one = page(server, { snapshotEvery: false });
    await thoroughly(server);
    kind.insert(one.doc, "x".repeat(LARGEST_PATCH + 1));
    await thoroughly(server);
    server.values.clear();
    const other = page(server, { snapshotEvery: { patches: 1 } });
    await thoroughly(server);
    assert.deepEqual(other.errors.map(({ code }) => code), ["no_such_value"]);
    kind.insert(one.doc, "y");
    await thoroughly(server);
    mock.timers.tick(2_000);
    await thoroughly(server);
    assert.deepEqual(server.snapshots, []);
  });

  test(`${name}: a patch that nobody can read is told, and the rest goes on`, async () => {
    const server = new FakeServer();
    server.append(Uint8Array.of(200, 201, 202));
    const one = page(server, { snapshotEvery: { patches: 1 } });
    await server.run();
    kind.insert(one.doc, "hello");
    await server.run();
    mock.timers.tick(2_000);
    await server.run();
    assert.deepEqual(one.errors.map(({ code }) => code), ["unreadable"]);
    assert.deepEqual([server.entries.length, server.snapshots.length], [2, 0]);
  });

  test(`${name}: how it is doing is the same object until it changes, and told when it does`, async () => {
    const server = new FakeServer();
    const one = page(server, { isConnected: false });
    const seen = [];
    const { subscribe } = one.binding;
    const off = subscribe(({ pending, synced }) => seen.push([pending, synced]));
    assert.equal(one.binding.current, one.binding.current);
    kind.insert(one.doc, "hello");
    await settle();
    one.store.connect();
    await server.run();
    assert.deepEqual([seen[0], seen.at(-1), one.binding.current], [[1, false], [0, true], { pending: 0, synced: true }]);
    assert.ok(Object.isFrozen(one.binding.current));
    one.store.lose();
    assert.deepEqual(seen.at(-1), [0, false]);
    off();
    const heard = seen.length;
    one.store.connect();
    await server.run();
    assert.equal(seen.length, heard);
  });

  test(`${name}: what the server refuses is told once, and is not pending`, async () => {
    const server = new FakeServer();
    server.refuses = ({ what }) => (what === "append" ? "forbidden" : undefined);
    const one = page(server);
    await server.run();
    kind.insert(one.doc, "hello");
    await server.run();
    assert.deepEqual([one.errors.map(({ code }) => code), one.binding.current.pending], [["forbidden"], 0]);
  });

  test(`${name}: after a failure that passes it tries again, with the same key`, async () => {
    const server = new FakeServer();
    const keys = [];
    let isFailing = true;
    const one = page(server);
    const { append } = one.store;
    one.store.append = (patch, options) => (keys.push(options.idempotencyKey), append.call(one.store, patch, options));
    server.refuses = ({ what }) => (what === "append" && isFailing ? "internal" : undefined);
    await server.run();
    kind.insert(one.doc, "hello");
    await server.run();
    kind.insert(one.doc, "more ");
    for (const pauseMs of [1_000, 2_000, 4_000]) {
      assert.equal(server.entries.length, 0);
      mock.timers.tick(pauseMs - 1);
      await server.run();
      assert.equal(server.entries.length, 0);
      isFailing = pauseMs < 4_000;
      mock.timers.tick(1);
      await server.run();
    }
    assert.equal(new Set(keys).size, 2);
    assert.deepEqual([server.entries.length, one.binding.current.pending, one.errors], [2, 0, []]);
  });

  test(`${name}: a new connection ends the pause after a failure`, async () => {
    const server = new FakeServer();
    const one = page(server);
    server.refuses = () => "unknown";
    await server.run();
    kind.insert(one.doc, "hello");
    await server.run();
    server.refuses = () => undefined;
    one.store.lose();
    one.store.connect();
    await server.run();
    assert.deepEqual([server.entries.length, one.binding.current.pending], [1, 0]);
  });

  test(`${name}: while much is on its way, edits become few patches`, async () => {
    const server = new FakeServer();
    const one = page(server);
    await server.run();
    for (let n = 0; n < 1_000; n++) {
      kind.insert(one.doc, "x");
      await undefined;
    }
    assert.equal(one.binding.current.pending, 9);
    await server.run();
    const late = page(server);
    await server.run();
    assert.deepEqual([server.entries.length, late.text().length], [9, 1_000]);
  });

  test(`${name}: every so many patches a snapshot, from which those begin who come`, async () => {
    const server = new FakeServer();
    const one = page(server, { snapshotEvery: { patches: 10 } });
    await server.run();
    const write = async (count) => {
      for (let n = 0; n < count; n++) {
        kind.insert(one.doc, "x");
        await server.run();
      }
      mock.timers.tick(2_000);
      await server.run();
    };
    await write(9);
    assert.equal(server.snapshots.length, 0);
    await write(1);
    assert.equal(server.snapshots[0].mark.offset, 10);
    await write(15);
    assert.deepEqual(server.snapshots.map(({ mark }) => mark.offset), [10, 25]);
    assert.equal(server.entries.length, 15, "the one before is still there to go back to");
    one.store.close();
    const late = page(server);
    await server.run();
    assert.equal(late.text(), "x".repeat(25));
  });

  test(`${name}: who may not give snapshots asks once, and says nothing`, async () => {
    const server = new FakeServer();
    let asked = 0;
    server.refuses = ({ what }) => (what === "snapshot" ? (asked++, "forbidden") : undefined);
    const one = page(server, { snapshotEvery: { patches: 1 } });
    for (let n = 0; n < 5; n++) {
      kind.insert(one.doc, "x");
      await server.run();
      mock.timers.tick(2_000);
      await server.run();
    }
    assert.deepEqual([asked, one.errors], [1, []]);
  });

  test(`${name}: of a store that others have read from it gives no snapshot`, async () => {
    const server = new FakeServer();
    const first = page(server);
    kind.insert(first.doc, "before ");
    await server.run();
    const store = new FakeStore(server);
    store.connect();
    await server.run();
    const doc = kind.make();
    kind.bind(doc, store, { snapshotEvery: { patches: 1 } });
    // By somebody who knew nothing of it either, so that the document is complete as far as it can tell.
    const stranger = kind.make();
    kind.insert(stranger, "after ");
    server.append(kind.state(stranger));
    await server.run();
    mock.timers.tick(2_000);
    await server.run();
    assert.deepEqual([server.snapshots, kind.text(doc)], [[], "after "]);
  });

  test(`${name}: what builds on something that is missing is in no snapshot that would end it`, async () => {
    const server = new FakeServer();
    const author = kind.make();
    kind.insert(author, "a");
    const first = kind.state(author);
    const updates = [];
    if (name === "Yjs") author.on("update", (update) => updates.push(update));
    else author.subscribeLocalUpdates((update) => updates.push(update));
    kind.insert(author, "b");
    server.append(updates[0]);
    const one = page(server, { snapshotEvery: { patches: 1 } });
    await server.run();
    mock.timers.tick(2_000);
    await server.run();
    assert.deepEqual([server.snapshots.length, one.text()], [0, ""]);
    server.append(first);
    await server.run();
    mock.timers.tick(2_000);
    await server.run();
    assert.deepEqual([server.snapshots.length, one.text()], [1, "ba"]);
  });

  test(`${name}: destroyed it hands on what was edited before, and hears and says nothing more`, async () => {
    const server = new FakeServer();
    const [one, other] = [page(server), page(server)];
    await server.run();
    kind.insert(one.doc, "before");
    one.binding.destroy();
    one.binding.destroy();
    kind.insert(one.doc, "after ");
    await server.run();
    assert.equal(other.text(), "before");
    kind.insert(other.doc, "more ");
    await server.run();
    assert.equal(one.text(), "after before");
    assert.equal(one.store.current.status, "open", "the store is the caller's");
  });

  // What sds-websocket-server did wrong, on the client's side.

  test(`regression: ${name}: after a burst of 100 patches a late joiner has 100, not 4`, async () => {
    const server = new FakeServer();
    const one = page(server);
    await server.run();
    for (let n = 0; n < 100; n++) {
      kind.insert(one.doc, "x");
      await settle(1);
    }
    await server.run();
    one.store.close();
    const late = page(server);
    await server.run();
    assert.equal(late.text(), "x".repeat(100));
  });

  test(`regression: ${name}: a value takes no patch away`, async () => {
    const server = new FakeServer();
    const one = page(server);
    await server.run();
    for (let n = 0; n < 10; n++) {
      kind.insert(one.doc, "x");
      await server.run();
    }
    const put = one.store.putValue(new Uint8Array(200_000));
    await thoroughly(server);
    const late = page(server);
    await server.run();
    assert.equal(late.text(), "x".repeat(10));
    const value = late.store.value(await put);
    await thoroughly(server);
    assert.deepEqual(await value, new Uint8Array(200_000), "and it needs no other client to answer");
  });

  test(`regression: ${name}: who joins makes no other client send anything`, async () => {
    const server = new FakeServer();
    const pages = Array.from({ length: 5 }, () => page(server));
    await server.run();
    kind.insert(pages[0].doc, "hello");
    await server.run();
    const late = page(server);
    await server.run();
    assert.deepEqual([late.text(), server.entries.length], ["hello", 1]);
  });

  test(`regression: ${name}: what is edited without a connection is sent when there is one`, async () => {
    const server = new FakeServer();
    const [one, other] = [page(server), page(server)];
    await server.run();
    kind.insert(one.doc, "on its way ");
    await settle();
    // The patch is with the server, its answer is lost.
    server.step(one.store);
    one.store.lose();
    kind.insert(one.doc, "while away ");
    await settle();
    one.store.connect();
    await server.run();
    assert.deepEqual([other.text(), server.entries.length], ["while away on its way ", 2]);
  });
}

// An observer of the application's threw, and the update that it was told of was taken for one that cannot be read: it was
// sent to the server once more, and this client gave it no snapshot ever again.
test("regression: what an observer throws is no fault of the update's", async (t) => {
  const server = new FakeServer();
  const [one, doc, errors, thrown] = [new FakeStore(server), new Y.Doc(), [], []];
  globalThis.reportError = (error) => thrown.push(error.message);
  t.after(() => delete globalThis.reportError);
  doc.getText("text").observe(() => { throw new Error("mine"); });
  bindYjs(doc, one, { onError: (error) => errors.push(error), snapshotEvery: { patches: 1 } });
  one.connect();
  await server.run();
  const other = new Y.Doc();
  const [from, second] = [new FakeStore(server), bindYjs];
  second(other, from, { snapshotEvery: false });
  from.connect();
  await server.run();
  other.getText("text").insert(0, "hello");
  await server.run();
  mock.timers.tick(2_000);
  await server.run();
  assert.deepEqual([doc.getText("text").toString(), thrown, errors, server.snapshots.length], ["hello", ["mine"], [], 1]);
});

// A document that the application had freed: to merge what was edited last threw, out of `destroy` too, which left the binding
// half ended.
test("regression: edits that cannot be merged go one by one", async () => {
  const server = new FakeServer();
  const [store, doc] = [new FakeStore(server), new LoroDoc()];
  const binding = bindLoro(doc, store);
  store.connect();
  await server.run();
  for (const text of ["a", "b"]) kinds.Loro.insert(doc, text);
  const freed = mock.method(LoroDoc.prototype, "export", () => { throw new Error("null pointer passed to rust"); });
  binding.destroy();
  freed.mock.restore();
  await server.run();
  const late = new LoroDoc();
  const from = new FakeStore(server);
  bindLoro(late, from);
  from.connect();
  await server.run();
  assert.equal(kinds.Loro.text(late), "ba");
});
