// Stores: documents that become the same whatever happens, and of whose edits each is on the server once.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { assertHelps, claim, NETWORK } from "./support/claim.mjs";
import { scratch } from "./support/environment.mjs";
import { SECRET, token } from "./support/token.mjs";

const QUICK = { reconnectBaseMs: 5, reconnectMaxMs: 20 };
/** A snapshot is not put off by chance. */
const AT_ONCE = () => { Math.random = () => 0; };
const KINDS = ["Yjs", "Loro"];

/** A fixture whose stores lie in a directory that the test may use again. */
async function serve(stage, { stores, ...options } = {}) {
  await mkdir(scratch, { recursive: true });
  const directory = stores ?? (await mkdtemp(join(scratch, "stores-")));
  if (!stores) stage.onEnd(() => rm(directory, { recursive: true, force: true }));
  return Object.assign(await stage.fixture({ stores: directory, ...options }), { stores: directory });
}

/** Who may do this in stores, and ask what is really in them. */
const may = (name, verbs) => token({ sub: name, scope: ["call:**", ...verbs.map((verb) => `store.${verb}:**`)].join(" ") });
const SOME = ["read", "write"];
const ALL = [...SOME, "admin"];

/** A page with a client, by default straight to the server. */
async function visit(stage, { http, url = "/moorline", key, init, ...options }) {
  const page = await stage.page(`${http}/documents.html`, init);
  const more = key === undefined ? {} : { serverKey: key };
  await page.evaluate(async ([url, options]) => {
    await kit.eventually(() => globalThis.documents);
    globalThis.client = moorline.connect(url, options);
    await client.ready();
  }, [url, { ...QUICK, ...more, ...options }]);
  return page;
}

/** Binds a new document to a store in this page. */
function bind(page, { kind = "Yjs", url = "/moorline", key, name = "notes/1", store = { offline: true }, bind, ...options }) {
  const more = key === undefined ? {} : { serverKey: key };
  const given = { kind, url, options: { ...QUICK, ...more, ...options }, name, store, bind: { snapshotEvery: false, ...bind } };
  return page.evaluate((given) => kit.document(given), given);
}

/** A page with a document that is bound to a store. */
async function write(stage, { http, init, ...how }) {
  const page = await stage.page(`${http}/documents.html`, init);
  await bind(page, how);
  return page;
}

const edit = (page, name, from, to) => page.evaluate(([name, from, to]) => kit.edit(name, from, to), [name, from, to]);
const read = (page) => page.evaluate(() => read(doc));
const problems = (page) => page.evaluate(() => problems);
const kept = (page) => page.evaluate(() => kit.kept());
const confirmed = (page) => page.evaluate(() => kit.eventually(() => binding.current.pending === 0 && store.current.pending === 0));
/** Waits until there are as many items in the document. */
const has = (page, items) => page.evaluate((items) => kit.eventually(() => read(doc).list.length >= items), items);
/** What the server has of a store, asked through this page. */
const contents = (page, name = "notes/1") => page.evaluate((name) => client.call("contents", name), name);

/** As many patches are there, and none twice. */
async function assertEachOnce(page, count, name) {
  const { patches } = await contents(page, name);
  assert.deepEqual([patches.length, new Set(patches).size], [count, count], "patches, and different ones");
}

const named = (name, to, from = 1) => Array.from({ length: to - from + 1 }, (_, at) => `${name} ${from + at}`);

for (const kind of KINDS) {
  claim(`documents_of_${kind}_become_the_same_after_cut_lines_a_killed_server_and_a_reload_in_mid_flush`, async (stage) => {
    const first = await serve(stage, { jwtSecret: SECRET });
    const { http, url, key, stores, port } = first;
    const again = () => serve(stage, { jwtSecret: SECRET, stores, port });
    const lines = { ann: await stage.cutter(url), ben: await stage.cutter(url) };
    const who = (name) => ({ kind, url: lines[name].url, key, token: may(name, SOME) });
    const [ann, ben] = [await write(stage, { http, ...who("ann") }), await write(stage, { http, ...who("ben") })];
    const both = (act) => Promise.all([act(ann, "ann"), act(ben, "ben")]);
    await edit(ann, "ann", 1, 5);
    await both((page) => has(page, 5));

    // Both edit without a line, and the server is killed and comes back meanwhile.
    for (const line of Object.values(lines)) line.block();
    await both((page) => page.evaluate(() => kit.eventually(() => store.current.status === "opening")));
    await both(async (page, name) => {
      await page.evaluate((at) => remove(doc, at), name === "ann" ? 0 : 1);
      await edit(page, name, 6, 25);
      await page.evaluate(() => kit.eventually(async () => (await kit.kept()) === 21));
    });
    const waiting = await both((page) => page.evaluate(() => [store.current.pending, store.current.offline]));
    assert.deepEqual(waiting, [[21, "disk"], [21, "disk"]]);
    await first.stop("SIGKILL");
    const second = await again();
    for (const line of Object.values(lines)) line.unblock();
    await both(confirmed);
    await both((page) => has(page, 43));
    await assertEachOnce(ben, 5 + 2 * 21);

    // The line of one dies, and the page is loaded again when it has sent some and knows of none that it is there.
    lines.ann.mute();
    await edit(ann, "ann", 26, 65);
    await ann.evaluate(() => kit.eventually(async () => (await kit.kept()) === 40));
    await has(ben, 44);
    const sent = (await contents(ben)).patches.length - 47;
    assert(sent > 0 && sent < 40, `${sent} of 40 were sent`);
    assert.equal(await ann.evaluate(() => store.current.pending), 40);
    await ann.reload();
    await bind(ann, who("ann"));
    await both((page) => has(page, 83));
    await ann.evaluate(() => kit.eventually(async () => (await kit.kept()) === 0));
    await assertEachOnce(ben, 87);

    // The server is killed when it has a part of what both have on its way, and neither knows which.
    const eve = await visit(stage, { http, token: may("eve", ["read"]) });
    for (const line of Object.values(lines)) line.mute();
    await both((page, name) => edit(page, name, 66, 165));
    await eve.evaluate(() => kit.eventually(async () => (await client.call("contents", "notes/1")).patches.length >= 87 + 20));
    await second.stop("SIGKILL");
    await both((page, name) => edit(page, name, 166, 185));
    assert.deepEqual(await both((page) => page.evaluate(() => store.current.pending)), [120, 120]);
    await again();
    await both(confirmed);
    await both((page) => has(page, 323));
    await assertEachOnce(eve, 327);
    assert.deepEqual(await both(kept), [0, 0]);

    const [one, other] = await both(read);
    assert.deepEqual(one, other);
    const expected = [...named("ann", 185, 3), ...named("ben", 25, 6), ...named("ben", 185, 66)];
    assert.deepEqual(one.list.toSorted(), expected.toSorted());
    assert.deepEqual(await both(problems), [[], []]);
    for (const page of [ann, ben, eve]) await page.context().close();

    // Who comes when nobody else is there has it all.
    const late = await write(stage, { http, kind, token: may("eve", ["read"]) });
    await late.evaluate(() => binding.synced);
    assert.deepEqual(await read(late), one);
  }, { tolerated: NETWORK, patienceMs: 120_000 });
}

claim("of_two_tabs_one_takes_over_what_the_other_leaves_in_mid_flush_and_nothing_comes_twice", async (stage) => {
  const { http, url, key } = await serve(stage, { jwtSecret: SECRET });
  const line = await stage.cutter(url);
  const who = { url: line.url, key, token: may("ann", SOME) };
  const one = await write(stage, { http, ...who });
  await edit(one, "one", 1, 3);
  await confirmed(one);
  line.mute();
  await edit(one, "one", 4, 43);
  await one.evaluate(() => kit.eventually(async () => (await kit.kept()) === 40));
  const two = await stage.tab(one.context(), `${http}/documents.html`);
  await bind(two, who);
  await edit(two, "two", 1, 10);
  await confirmed(two);
  const before = (await contents(two)).patches.length;
  assert(before < 3 + 40 + 10, "what belongs to a tab that is there is left to it");
  assert.equal(await kept(two), 40);
  // Its connection goes on as it was.
  const session = await two.evaluate(() => client.session.id);
  await one.close();
  await has(two, 53);
  await two.evaluate(() => kit.eventually(async () => (await kit.kept()) === 0));
  await assertEachOnce(two, 53);
  assert.deepEqual((await read(two)).list.toSorted(), [...named("one", 43), ...named("two", 10)].toSorted());
  assert.equal(await two.evaluate(() => client.session.id), session);

  // Both at once.
  const three = await stage.tab(two.context(), `${http}/documents.html`);
  await bind(three, who);
  await Promise.all([edit(two, "two", 11, 60), edit(three, "three", 1, 50)]);
  await Promise.all([confirmed(two), confirmed(three)]);
  await has(three, 153);
  await three.evaluate(() => kit.eventually(async () => (await kit.kept()) === 0));
  await assertEachOnce(three, 153);
  assert.deepEqual([await problems(three), await three.evaluate(() => store.refused)], [[], []]);
});

claim("values_of_any_size_are_there_when_their_writer_is_gone_and_false_bytes_are_refused", async (stage) => {
  const first = await serve(stage);
  const { http, stores, port } = first;
  const sizes = [0, 1, 200_000, 1 << 20, (1 << 20) + 1, 5 << 20];
  const writer = await visit(stage, { http });
  const make = (page) => page.evaluate(() => {
    globalThis.made = (length) => {
      let state = length + 1;
      return Uint8Array.from({ length }, () => (state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 1) >>> 11);
    };
    globalThis.same = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);
  });
  await make(writer);
  const ids = await writer.evaluate(async (sizes) => {
    globalThis.store = await client.store("notes/values").ready();
    const ids = {};
    for (const size of sizes) ids[size] = await store.putValue(made(size));
    return ids;
  }, sizes);
  const [one] = await writer.evaluate(() => [...made(1)]);
  assert.equal(ids[1], createHash("sha256").update(Uint8Array.of(0, one)).digest("hex"));
  const needles = await writer.evaluate(() => [200_000, 5 << 20].map((size) => [...made(size).slice(150_000, 150_040)]));
  await writer.context().close();

  const look = async (page) => {
    await make(page);
    return page.evaluate(async (ids) => {
      const store = await client.store("notes/values").ready();
      const other = await client.store("notes/others").ready();
      const found = {};
      for (const [size, id] of Object.entries(ids)) {
        const { value, error } = await kit.outcome(store.value(id));
        found[size] = value ? same(value, made(Number(size))) : error;
      }
      const [tooLarge, nothing, elsewhere] = await Promise.all(
        [store.value(ids[5 << 20], { maxBytes: 1_000_000 }), store.value("0".repeat(64)), other.value(ids[1])].map(kit.outcome));
      return { found, tooLarge, nothing, elsewhere };
    }, ids);
  };
  const { found, tooLarge, nothing, elsewhere } = await look(await visit(stage, { http }));
  assert.deepEqual(found, Object.fromEntries(sizes.map((size) => [size, true])));
  assertHelps(tooLarge.error, "too_large");
  assertHelps(nothing.error, "no_such_value");
  assertHelps(elsewhere.error, "no_such_value");

  // Somebody changes a bit where the server keeps them.
  await first.stop("SIGTERM");
  assert((await readdir(stores)).every((file) => !file.endsWith("-wal")), "all is in the one file");
  const file = join(stores, "channels.sqlite");
  const bytes = await readFile(file);
  for (const needle of needles) {
    const at = bytes.indexOf(Uint8Array.from(needle));
    assert(at >= 0, "it is found in the file");
    bytes[at] ^= 1;
  }
  await writeFile(file, bytes);
  await serve(stage, { stores, port });
  const after = (await look(await visit(stage, { http }))).found;
  for (const size of [200_000, 5 << 20]) assertHelps(after[size], "corrupt_value");
  assert.deepEqual(Object.values(after).filter((is) => is === true).length, sizes.length - 2, "the others are as they were");
}, { tolerated: NETWORK });

for (const kind of KINDS) {
  claim(`snapshots_of_${kind}_are_given_by_who_may_and_a_late_page_begins_with_one`, async (stage) => {
    const { http } = await serve(stage, { jwtSecret: SECRET });
    const every = { bind: { snapshotEvery: { patches: 20 } }, kind, init: AT_ONCE };
    const writer = await write(stage, { http, ...every, token: may("ann", SOME) });
    await edit(writer, "ann", 1, 70);
    await confirmed(writer);
    const tried = await writer.evaluate(async () => {
      await kit.eventually(() => snapshots.length > 0);
      return Promise.all(snapshots);
    });
    assert.equal(tried.length, 1, "it asks once");
    assertHelps(tried[0].error, "forbidden");
    assert.equal((await contents(writer)).snapshot, null);

    const admin = await write(stage, { http, ...every, token: may("root", ALL) });
    await admin.evaluate(() => kit.eventually(() => snapshots.length > 0));
    assert.deepEqual(await admin.evaluate(() => snapshots[0]), { value: undefined });
    await edit(writer, "ann", 71, 75);
    await has(admin, 75);
    const { snapshot, patches } = await contents(writer);
    assert(snapshot !== null && patches.length < 75, `${patches.length} patches are left`);

    const late = await visit(stage, { http, token: may("eve", ["read"]) });
    const told = await late.evaluate(async (kind) => {
      const store = client.store("notes/1");
      globalThis.told = kit.events(store, "update");
      await kit.eventually(() => store.current.synced);
      return told.map((update) => update.kind);
    }, kind);
    assert.deepEqual(told, ["snapshot", ...patches.map(() => "patch")]);
    const eve = await write(stage, { http, kind, token: may("eve", ["read"]) });
    await eve.evaluate(() => binding.synced);
    assert.deepEqual(await read(eve), await read(writer));
    assert.deepEqual((await read(eve)).list, named("ann", 75));
    for (const page of [writer, admin, eve]) assert.deepEqual(await problems(page), []);
  });
}

claim("of_two_snapshots_at_once_one_is_superseded_and_nobody_is_troubled", async (stage) => {
  const { http } = await serve(stage, { jwtSecret: SECRET });
  const every = { bind: { snapshotEvery: { patches: 30 } }, init: AT_ONCE };
  const admins = [];
  for (const name of ["root", "toor"]) {
    const page = await write(stage, { http, ...every, token: may(name, ALL) });
    // Neither goes out before both are asked for.
    await page.evaluate(() => {
      const { snapshot } = store;
      const gate = new Promise((resolve) => (globalThis.release = resolve));
      globalThis.isAsked = false;
      store.snapshot = async (...args) => ((isAsked = true), await gate, snapshot.apply(store, args));
    });
    admins.push(page);
  }
  const writer = await write(stage, { http, token: may("ann", SOME) });
  await edit(writer, "ann", 1, 30);
  for (const page of admins) await page.evaluate(() => kit.eventually(() => isAsked));
  const outcomes = [];
  for (const page of admins) {
    outcomes.push(await page.evaluate(async () => {
      release();
      await kit.eventually(() => snapshots.length === 1);
      return snapshots[0];
    }));
  }
  assert.deepEqual(outcomes[0], { value: undefined });
  assertHelps(outcomes[1].error, "superseded_snapshot");
  await edit(writer, "ann", 31, 35);
  for (const page of admins) {
    await has(page, 35);
    assert.deepEqual([await problems(page), await page.evaluate(() => store.current.status)], [[], "open"]);
  }
  assert.equal((await contents(writer)).patches.length, 5);
});

claim("who_is_in_a_store_is_seen_by_the_others", async (stage) => {
  const { http, url, key } = await serve(stage, { jwtSecret: SECRET });
  const line = await stage.cutter(url);
  const enter = async (name, where = {}) => {
    const page = await write(stage, { http, token: may(name, SOME), store: { offline: true, presence: { name } }, ...where });
    await page.evaluate(() => store.ready());
    return page;
  };
  const ben = await enter("ben");
  const ann = await enter("ann", { url: line.url, key });
  const seen = (passes) => ben.evaluate(async (passes) => {
    const holds = new Function("ann", `return ${passes}`);
    const look = () => store.members.current.find(({ subject }) => subject === "ann");
    await kit.eventually(() => holds(look()));
    return look();
  }, passes);
  const first = await seen("ann");
  assert.deepEqual([first.data, first.away, first.me], [{ name: "ann" }, false, false]);
  await ann.evaluate(() => store.setPresence({ name: "ann", cursor: 7 }));
  assert.equal((await seen("ann.data.cursor")).data.cursor, 7);
  line.block();
  await seen("ann.away");
  line.unblock();
  const back = await seen("!ann.away");
  assert.deepEqual([back.id, back.data.cursor], [first.id, 7]);
  await ann.evaluate(() => store.close());
  await seen("!ann");
}, { tolerated: NETWORK });

claim("who_may_only_read_is_told_and_reads_on_and_what_was_refused_is_kept", async (stage) => {
  const { http } = await serve(stage, { jwtSecret: SECRET });
  const writer = await write(stage, { http, token: may("ann", SOME) });
  const reader = await write(stage, { http, token: may("eve", ["read"]) });
  const hasty = await write(stage, { http, token: may("eve", ["read"]), store: {} });
  for (const page of [reader, hasty]) {
    await edit(page, "eve", 1, 2);
    await page.evaluate(() => kit.eventually(() => problems.length === 2));
    for (const problem of await problems(page)) assertHelps(problem, "forbidden");
  }
  await edit(writer, "ann", 1, 3);
  for (const page of [reader, hasty]) {
    await has(page, 5);
    assert.deepEqual(await page.evaluate(() => [store.current.status, store.current.pending, store.refused.length]),
      ["open", 0, page === reader ? 2 : 0]);
  }
  assert.deepEqual((await read(writer)).list, named("ann", 3));

  // They are still there in the next page, by which time she may write.
  await reader.reload();
  await bind(reader, { token: may("eve", SOME) });
  await reader.evaluate(async () => {
    await kit.eventually(() => store.refused.length === 2);
    for (const refused of store.refused) refused.retry();
  });
  await has(writer, 5);
  await confirmed(reader);
  assert.deepEqual(await read(reader), await read(writer));
  await assertEachOnce(writer, 5);
  assert.equal(await kept(reader), 0);
});

claim("scopes_that_are_taken_away_count_at_once_on_the_open_connection", async (stage) => {
  const { http } = await serve(stage, { jwtSecret: SECRET });
  const page = await write(stage, { http, token: may("ann", SOME) });
  const other = await write(stage, { http, token: may("ben", SOME) });
  await edit(page, "ann", 1, 2);
  await confirmed(page);
  const become = (verbs) => page.evaluate((token) => client.authenticate({ token }), may("ann", verbs));
  await become(["read"]);
  await edit(page, "ann", 3, 3);
  const refused = await page.evaluate(async () => {
    await kit.eventually(() => store.refused.length === 1);
    return kit.plain(store.refused[0].error);
  });
  assert.equal(refused.code, "forbidden");
  await edit(other, "ben", 1, 1);
  await has(page, 4);
  await become(SOME);
  await page.evaluate(() => store.refused[0].retry());
  await has(other, 4);
  assert.deepEqual(await read(page), await read(other));

  await become(["write"]);
  const closed = await page.evaluate(async () => {
    await kit.eventually(() => store.current.status === "closed");
    return { state: kit.plain(store.current.error), appended: await kit.outcome(store.append(Uint8Array.of(0, 0))) };
  });
  assertHelps(closed.state, "forbidden");
  assertHelps(closed.appended.error, "closed");
  assert.equal((await read(page)).list.length, 4, "the document stays");
});

claim("a_store_that_is_full_says_so_and_what_it_did_not_take_waits_until_there_is_room", async (stage) => {
  const { http } = await serve(stage, { jwtSecret: SECRET });
  const name = "small/1";
  const writer = await write(stage, { http, name, token: may("ann", SOME) });
  await writer.evaluate(() => { globalThis.events = kit.events(store, "refused"); });
  for (let n = 1; n <= 100 && !(await writer.evaluate(() => store.refused.length)); n++) {
    await edit(writer, "ann", n, n);
    await confirmed(writer);
  }
  const full = await writer.evaluate(() => ({ error: kit.plain(store.refused[0].error), count: store.refused.length, told: events.length }));
  assertHelps(full.error, "store_full");
  assert.deepEqual([full.count, full.told], [1, 1]);
  const [problem] = await problems(writer);
  assertHelps(problem, "store_full");
  const value = await writer.evaluate(() => kit.outcome(store.putValue(new Uint8Array(4_000))));
  assertHelps(value.error, "store_full");

  // Over a reload, too. Somebody makes room by a snapshot.
  await writer.reload();
  await bind(writer, { name, token: may("ann", SOME) });
  await writer.evaluate(() => kit.eventually(() => store.refused.length === 1));
  const admin = await write(stage, { http, name, token: may("root", ALL), init: AT_ONCE, bind: { snapshotEvery: { patches: 1 } } });
  await admin.evaluate(() => kit.eventually(() => snapshots.length > 0));
  assert.deepEqual(await admin.evaluate(() => snapshots[0]), { value: undefined });
  const before = (await read(admin)).list;
  await writer.evaluate(() => store.refused[0].retry());
  await confirmed(writer);
  await has(admin, before.length + 1);
  assert.deepEqual((await read(admin)).list, named("ann", before.length + 1));
  assert.deepEqual(await read(writer), await read(admin));
  assert.deepEqual([await kept(writer), await writer.evaluate(() => store.refused.length)], [0, 0]);
});

claim("a_store_that_there_is_not_closes_with_the_reason_and_so_does_what_is_bound_to_it", async (stage) => {
  const { http } = await serve(stage);
  const page = await write(stage, { http, name: "nothing/1" });
  const found = await page.evaluate(async () => ({
    ready: await kit.outcome(store.ready()),
    synced: await kit.outcome(binding.synced),
    status: store.current.status,
    appended: await kit.outcome(store.append(Uint8Array.of(0, 0))),
    other: await kit.outcome(client.store("notes/1").ready().then((store) => store.current.status)),
  }));
  assertHelps(found.ready.error, "no_such_channel");
  assertHelps(found.synced.error, "no_such_channel");
  assertHelps(found.appended.error, "closed");
  assert.deepEqual([found.status, found.other], ["closed", { value: "open" }]);
});

for (const kind of KINDS) {
  claim(`two_documents_of_${kind}_in_one_page_are_kept_the_same_and_a_store_may_be_opened_again`, async (stage) => {
    const { http } = await serve(stage);
    const page = await write(stage, { http, kind });
    const found = await page.evaluate(async (kind) => {
      const second = documents[kind].make();
      const secondStore = client.store("notes/1");
      const secondBinding = documents[kind].bind(second, secondStore, { snapshotEvery: false });
      await Promise.all([binding.synced, secondBinding.synced]);
      edit(doc, "from the first");
      await kit.eventually(() => read(second).list.length === 1);
      edit(second, "from the second");
      await kit.eventually(() => read(doc).list.length === 2);
      await kit.eventually(() => binding.current.pending + secondBinding.current.pending + store.current.pending === 0);
      const both = [read(doc), read(second)];

      // All of them away, and another one from nothing, in the same session.
      const { id } = client.session;
      store.close();
      secondStore.close();
      const third = documents[kind].make();
      const thirdStore = client.store("notes/1", { offline: true });
      const thirdBinding = documents[kind].bind(third, thirdStore, { snapshotEvery: false });
      await thirdBinding.synced;
      const again = read(third);
      edit(third, "from the third");
      await kit.eventually(() => thirdBinding.current.pending === 0);
      // And one from where that is.
      const since = client.store("notes/1", { since: thirdStore.position });
      const late = kit.events(since, "update");
      await kit.eventually(() => since.current.synced);
      return { both, again, third: read(third).list, late: late.length, isSame: client.session.id === id };
    }, kind);
    assert.deepEqual(found.both[0], found.both[1]);
    assert.deepEqual(found.again, found.both[0]);
    assert.deepEqual(found.third, ["from the first", "from the second", "from the third"]);
    assert.deepEqual([found.late, found.isSame], [0, true]);
    await assertEachOnce(page, 3);
    assert.deepEqual(await problems(page), []);
  });
}

claim("what_a_closed_store_left_is_sent_when_it_is_opened_again_in_the_same_session", async (stage) => {
  const { http } = await serve(stage);
  const page = await write(stage, { http });
  const { left, isSame, list } = await page.evaluate(async () => {
    await binding.synced;
    const { id } = client.session;
    for (let n = 1; n <= 40; n++) {
      edit(doc, `ann ${n}`);
      // A patch of its own, and no answer in between.
      await undefined;
    }
    const left = store.current.pending;
    store.close();
    const again = make();
    globalThis.store = client.store("notes/1", { offline: true });
    bind(again, store, { snapshotEvery: false });
    await kit.eventually(async () => read(again).list.length === 40 && (await kit.kept()) === 0);
    return { left, isSame: client.session.id === id, list: read(again).list };
  });
  assert.deepEqual([left, isSame, list], [40, true, named("ann", 40)]);
  await assertEachOnce(page, 40);
});

claim("where_the_browser_gives_no_indexeddb_patches_wait_in_memory_and_the_page_is_told", async (stage) => {
  const { http, url, key } = await serve(stage);
  const line = await stage.cutter(url);
  const denials = [
    // No such thing; to look at it throws; and to open it fails, each of which some browser does.
    () => Object.defineProperty(globalThis, "indexedDB", { get: () => undefined }),
    () => Object.defineProperty(globalThis, "indexedDB", { get() { throw new DOMException("denied", "SecurityError"); } }),
    () => { IDBFactory.prototype.open = () => { throw new DOMException("denied", "SecurityError"); }; },
  ];
  let items = 0;
  for (const init of denials) {
    const page = await visit(stage, { http, init, url: line.url, key });
    await page.evaluate(async () => {
      globalThis.reports = kit.events(client, "error");
      globalThis.doc = documents.Yjs.make();
      globalThis.store = client.store("notes/1", { offline: true });
      globalThis.binding = documents.Yjs.bind(doc, store);
      await binding.synced;
    });
    line.block();
    await page.evaluate(async () => {
      await kit.eventually(() => store.current.status === "opening");
      documents.Yjs.edit(doc, "without a disk");
      await kit.eventually(() => store.current.offline === "memory" && store.current.pending === 1);
    });
    line.unblock();
    await page.evaluate(() => kit.eventually(() => store.current.pending === 0));
    const reports = await page.evaluate(() => reports.map(kit.plain));
    if (init === denials[2]) assertHelps(reports[0], "offline_unavailable");
    await assertEachOnce(page, ++items);
    await page.context().close();
  }
}, { tolerated: NETWORK });
