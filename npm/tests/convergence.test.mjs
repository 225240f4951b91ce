/**
 * Documents of several pages over one store, with everything going wrong that may: no connection for a while, pages that
 * vanish in the middle of sending, servers that restart, snapshots in between. In the end all are the same and no edit is
 * lost. A failure prints its seed; `MOORLINE_SEED=n` runs that one alone, `MOORLINE_SEEDS=n` so many.
 */
import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { IDBFactory } from "fake-indexeddb";
import { LoroDoc } from "loro-crdt";
import * as Y from "yjs";

import { toHex } from "../dist/hash.js";
import { bindLoro } from "../dist/loro.js";
import { bindYjs } from "../dist/yjs.js";
import { Link } from "./served-core.mjs";
import { FakeLocks, FakeServer, FakeStore, randomFrom, settle } from "./fake-store.mjs";

const STEPS = 120;
const seeds = process.env.MOORLINE_SEED
  ? [Number(process.env.MOORLINE_SEED)]
  : Array.from({ length: Number(process.env.MOORLINE_SEEDS ?? 12) }, (_, n) => n + 1);

/** A text and a map, in either kind of document. */
const kinds = {
  Yjs: {
    bind: bindYjs,
    make: () => new Y.Doc(),
    text: (doc) => doc.getText("text").toString(),
    map: (doc) => doc.getMap("map").toJSON(),
    insert: (doc, at, text) => doc.getText("text").insert(at, text),
    remove: (doc, at, length) => doc.getText("text").delete(at, length),
    set: (doc, key, value) => doc.getMap("map").set(key, value),
  },
  Loro: {
    bind: bindLoro,
    make: () => new LoroDoc(),
    text: (doc) => doc.getText("text").toString(),
    map: (doc) => doc.getMap("map").toJSON(),
    insert: (doc, at, text) => { doc.getText("text").insert(at, text); doc.commit(); },
    remove: (doc, at, length) => { doc.getText("text").delete(at, length); doc.commit(); },
    set: (doc, key, value) => { doc.getMap("map").set(key, value); doc.commit(); },
  },
};

class World {
  server = new FakeServer();
  errors = [];
  /** Edits that some page has handed on for good: they must be there in the end. */
  kept = new Set();
  #edits = 0;

  constructor(kind, seed, open) {
    this.kind = kind;
    this.open = (origin, locks) => open(this.server, origin, locks);
    this.random = randomFrom(seed);
    // Two tabs of one browser, and another browser.
    const [home, away] = [{ indexedDB: new IDBFactory(), locks: new FakeLocks() }, { indexedDB: new IDBFactory() }];
    this.pages = [home, home, away].map((origin) => this.load(origin));
  }

  load(origin, existing) {
    const { kind } = this;
    const locks = origin.locks?.page();
    const { link, store } = this.open(origin, locks);
    const doc = existing ?? kind.make();
    const binding = kind.bind(doc, store, {
      snapshotEvery: { patches: 12 },
      onError: (error) => this.errors.push(error),
    });
    return { origin, locks, link, store, doc, binding, unsafe: [] };
  }

  pick(list) { return list[Math.floor(this.random() * list.length)]; }
  below(n) { return Math.floor(this.random() * n); }

  edit(page) {
    const { kind } = this;
    const length = kind.text(page.doc).length;
    // Keys are never set twice, so that each edit can be looked for.
    const key = `k${this.#edits++}`;
    kind.set(page.doc, key, page.store.name);
    page.unsafe.push(key);
    if (length > 10 && this.random() < 0.3) kind.remove(page.doc, this.below(length - 3), 3);
    else kind.insert(page.doc, this.below(length + 1), `<${key}>`);
  }

  /** What was edited in a page until now has reached the disk. */
  async save(page) {
    await settle(100);
    for (const key of page.unsafe.splice(0)) this.kept.add(key);
  }

  crash(page) {
    page.link.crash();
    page.locks?.crash();
    this.pages[this.pages.indexOf(page)] = this.load(page.origin);
  }

  async step() {
    const page = this.pick(this.pages);
    const dice = this.random();
    if (dice < 0.3) this.edit(page);
    else if (dice < 0.4) page.link.connect({ isNew: this.random() < 0.5 });
    else if (dice < 0.45) page.link.lose();
    else if (dice < 0.49) await this.save(page);
    else if (dice < 0.52) this.crash(page);
    else if (dice < 0.53) this.server.restart();
    else if (dice < 0.56) await settle(12).then(() => mock.timers.tick(2_500));
    else if (dice < 0.7) await settle(this.below(4));
    else for (let n = this.below(6); n > 0; n--) this.server.step(page.link);
  }

  async finish() {
    await settle();
    for (const page of this.pages) {
      page.link.connect();
      await this.save(page);
    }
    for (let round = 0; round < 6; round++) {
      await this.server.run();
      mock.timers.tick(2_500);
    }
    await this.server.run();
  }

  check() {
    const { kind, pages } = this;
    assert.deepEqual(this.errors, []);
    const [first, ...others] = pages;
    for (const other of others) {
      assert.equal(kind.text(other.doc), kind.text(first.doc));
      assert.deepEqual(kind.map(other.doc), kind.map(first.doc));
    }
    const map = kind.map(first.doc);
    for (const key of this.kept) assert.ok(key in map, `the edit ${key} is lost`);
    for (const { store, binding } of pages) assert.deepEqual([store.current.pending, binding.current.pending], [0, 0]);
  }

  checkEntries() {
    const patches = this.server.entries.map(({ data }) => toHex(data));
    assert.equal(new Set(patches).size, patches.length, "a patch has two entries");
  }
}

/** A store by itself, and the real one over a core that is not. */
const stores = {
  alone: (server, { indexedDB }, locks) => {
    const store = new FakeStore(server, { offline: true, indexedDB, locks });
    return { link: store, store };
  },
  "in a client": (server, { indexedDB }, locks) => {
    const link = new Link(server);
    mock.timers.tick(1);
    const found = ["indexedDB", "navigator", "BroadcastChannel"].map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
    Object.defineProperty(globalThis, "indexedDB", { value: indexedDB, configurable: true });
    Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
    Object.defineProperty(globalThis, "BroadcastChannel", { value: undefined, configurable: true });
    const store = link.client.store("notes", { offline: true });
    for (const [name, descriptor] of found) {
      delete globalThis[name];
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    }
    return { link, store };
  },
};

for (const [kindName, kind] of Object.entries(kinds)) for (const [where, open] of Object.entries(stores)) {
  const name = `${kindName}, ${where}`;
  test(`${name}: whatever happens, all documents become the same and no edit is lost`, async (t) => {
    for (const seed of seeds) {
      await t.test(`seed ${seed}`, async () => {
        mock.timers.enable({ apis: ["setTimeout"] });
        try {
          const world = new World(kind, seed, open);
          for (let step = 0; step < STEPS; step++) await world.step();
          await world.finish();
          world.check();
          world.checkEntries();

          // Somebody comes when all others are gone, and needs none of them.
          const text = kind.text(world.pages[0].doc);
          for (const page of world.pages) page.store.close();
          const late = world.load({ indexedDB: new IDBFactory() });
          await settle();
          late.link.connect();
          await world.server.run();
          assert.equal(kind.text(late.doc), text);
          await late.binding.synced;
        } catch (error) {
          error.message = `MOORLINE_SEED=${seed}: ${error.message}`;
          throw error;
        } finally {
          mock.timers.reset();
        }
      });
    }
  });

  test(`${name}: a server that lost its newest entries gets them back from whoever has them`, async () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    try {
      const world = new World(kind, 1, open);
      await world.finish();
      for (const page of world.pages) world.edit(page), world.edit(page);
      await world.finish();
      const text = kind.text(world.pages[0].doc);
      for (const lose of [() => world.server.rollBack(4), () => world.server.wipe()]) {
        lose();
        await world.finish();
        world.check();
        const late = world.load({ indexedDB: new IDBFactory() });
        await settle();
        late.link.connect();
        await world.server.run();
        assert.equal(kind.text(late.doc), text);
        late.store.close();
      }
    } finally {
      mock.timers.reset();
    }
  });
}
