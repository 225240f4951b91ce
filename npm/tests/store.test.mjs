import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, test } from "node:test";

import { MoorlineClient } from "../dist/client.js";
import { ChannelError } from "../dist/errors.js";
import { positionFrom } from "../dist/position.js";
import { bytes, environment, failure, ME, position, session, settings, turn } from "./fake-core.mjs";

const [STORE, APPEND, SNAPSHOT, KEEP, VALUE] = [4, 1, 5, 6, 7];
const at = (n) => positionFrom(position(n));
const identity = (subject) => ({ identity: bytes({ subject, tenant: "t" }) });

const cores = [];
afterEach(() => { for (const core of cores.splice(0)) core.closed(); });

async function opened() {
  const around = environment();
  const client = new MoorlineClient(settings, around);
  await turn();
  around.core.connected({ ...session, admission: identity("ann") });
  cores.push(around.core);
  return { client, core: around.core };
}

/** A store that is open, and what its listener hears: the first byte of each, a snapshot with a minus. */
async function following(options) {
  const { client, core } = await opened();
  const store = client.store("notes/1", options);
  const heard = [];
  const off = store.on("update", ({ kind, data }) => heard.push(kind === "snapshot" ? -data[0] : data[0]));
  core.opens(1, "new", 0);
  return { client, core, store, heard, off };
}

/** Hashes are made on another thread, which takes its time on a busy machine. */
async function asked(core, count) {
  while (core.only("request").length < count) await turn();
}

const requests = (core) => core.only("request").map(([, kind, what, name, { target, body, key }]) => ({ kind, what, name, target, body, key }));

test("a store is followed at once, with its own patches, which are left out here", async () => {
  const { client, core } = await opened();
  const store = client.store("notes/1", { presence: { name: "ann" }, members: false, since: at(7) });
  assert.deepEqual(core.only("follow"), [
    ["follow", STORE, "notes/1", { history: 0, quiet: false, members: false, since: position(7), data: { name: "ann" } }],
  ]);
  assert.equal(store.position, at(7));
  assert.deepEqual({ ...store.current }, {
    status: "opening", recovered: undefined, gap: undefined, error: undefined, synced: false, pending: 0, refused: 0, withheld: 0, offline: "off",
  });
});

test("a snapshot comes first, and what is not in it", async () => {
  const { core, store } = await following();
  const [first, second, third] = [1, 2, 3].map((n) => Uint8Array.of(n));
  const seen = [];
  store.on("update", (update) => seen.push({ ...update }));
  core.covers(1, 5, first);
  core.patches(1, { n: 6, body: second, before: true }, { n: 7, body: third });
  const from = { member: "b0", subject: "bob" };
  assert.deepEqual(seen, [
    { kind: "snapshot", data: first, position: at(5), at: 5 },
    { kind: "patch", data: second, from, position: at(6), at: 6, recovered: true },
    { kind: "patch", data: third, from, position: at(7), at: 7, recovered: false },
  ]);
  assert.equal(store.position, at(7));
});

test("loops read the same", async () => {
  const { core, store } = await following();
  const loop = store[Symbol.asyncIterator]();
  core.covers(1, 5);
  core.patches(1, 6);
  const seen = [await loop.next(), await loop.next()].map(({ value: { kind, data } }) => [kind, data[0]]);
  assert.deepEqual(seen, [["snapshot", 5], ["patch", 6]]);
  store.close();
  assert.ok((await loop.next()).done);
});

test("what comes before anybody listens is told to the first who does, before what comes then", async () => {
  const { client, core } = await opened();
  const store = client.store("notes/1");
  core.opens(1, "new", 0);
  core.covers(1, 5);
  core.patches(1, 6);
  core.host.onCaughtUp(1);
  assert.deepEqual([store.position, store.current.synced], [undefined, false], "nothing is handed on");
  const [heard, positions] = [[], []];
  store.on("update", ({ data }) => { heard.push(data[0]); positions.push(store.position); });
  core.patches(1, 7);
  assert.deepEqual(heard, []);
  await turn();
  assert.deepEqual([heard, positions, store.current.synced], [[5, 6, 7], [at(5), at(6), at(7)], true]);
  core.patches(1, 8);
  assert.deepEqual(heard, [5, 6, 7, 8]);
  store.on("update", () => assert.fail("that was before"));
  await turn();
});

test("before anybody listens nothing is lost, however much comes", async () => {
  const { client, core } = await opened();
  const store = client.store("notes/1", { buffer: 2 });
  core.opens(1, "new", 0);
  core.patches(1, 1, 2, 3, 4);
  assert.deepEqual(core.only("hold"), [["hold", 1]]);
  const heard = [];
  store.on("update", ({ data }) => heard.push(data[0]));
  await turn();
  assert.deepEqual(core.only("follow").at(-1)[3].since, position(2));
  core.opens(2, "recovered", 2);
  core.patches(2, 3, 4, 5, 6, 7);
  assert.deepEqual(heard, [1, 2, 3, 4, 5, 6, 7]);
});

test("a slow loop makes the server wait, and loses nothing", async () => {
  const { core, store, off } = await following({ buffer: 2 });
  off();
  const loop = store[Symbol.asyncIterator]();
  core.patches(1, 1, 2, 3);
  assert.equal(core.only("hold").length, 1);
  const seen = [];
  for (let n = 0; n < 2; n++) seen.push((await loop.next()).value.data[0]);
  core.opens(2, "recovered", 2);
  core.patches(2, 3);
  seen.push((await loop.next()).value.data[0]);
  assert.deepEqual(seen, [1, 2, 3]);
});

test("synced says that all has come that was there", async () => {
  const { core, store } = await following();
  const states = [];
  store.subscribe(({ status, synced, recovered, gap }) => states.push([status, synced, recovered, gap]));
  core.patches(1, { n: 1, before: true });
  core.host.onCaughtUp(1);
  core.patches(1, 2);
  core.lost();
  core.connected();
  core.opens(1, "recovered", 2);
  core.host.onCaughtUp(1);
  assert.deepEqual(states, [
    ["open", true, undefined, undefined], ["opening", false, undefined, undefined], ["open", false, true, undefined],
    ["open", true, true, undefined],
  ]);
});

test("after a gap everything is told from the beginning", async () => {
  const { core, store, heard } = await following();
  core.host.onCaughtUp(1);
  core.patches(1, 1);
  const seen = [];
  store.on("gap", (gap) => seen.push([gap, store.current.synced, [...heard]]));
  core.opens(1, "trimmed");
  core.covers(1, 9);
  assert.deepEqual([seen, heard, store.current.gap], [[["trimmed", false, [1]]], [1, -9], "trimmed"]);
});

test("a patch settles with its position, and does not come back", async () => {
  const { core, store, heard } = await following();
  const appended = store.append(Uint8Array.of(1), { idempotencyKey: "k" });
  assert.equal(store.current.pending, 1);
  assert.deepEqual(requests(core), [{ kind: STORE, what: APPEND, name: "notes/1", target: undefined, body: Uint8Array.of(1), key: "k" }]);
  core.patches(1, { n: 1, by: ME });
  core.answers(1, position(1));
  assert.equal(await appended, at(1));
  assert.deepEqual([heard, store.current.pending, store.position], [[], 0, at(1)]);
});

test("nor when the server answers before it tells", async () => {
  const { core, store, heard } = await following();
  const appended = store.append(Uint8Array.of(1));
  core.answers(1, position(2));
  await appended;
  core.patches(1, 1, { n: 2, by: ME, body: Uint8Array.of(1) });
  assert.deepEqual([heard, store.position], [[1], at(2)]);
});

// With QUIET on the wire the server leaves out what is of the same session: the other one would never get it, and its
// snapshot would take it from everybody.
test("regression: two objects of one store hear each other, and who comes late hears the one before", async () => {
  const { client, core, store, heard } = await following();
  const other = client.store("notes/1");
  const otherHeard = [];
  other.on("update", ({ data }) => otherHeard.push(data[0]));
  core.opens(2, "new", 0);
  const appended = store.append(Uint8Array.of(1));
  for (const id of [1, 2]) core.patches(id, { n: 1, by: ME });
  core.answers(1, position(1));
  await appended;
  assert.deepEqual([heard, otherHeard], [[], [1]]);
  store.close();
  const late = client.store("notes/1");
  const lateHeard = [];
  late.on("update", ({ data }) => lateHeard.push(data[0]));
  core.opens(3, "new", 0);
  core.patches(3, { n: 1, by: ME, before: true });
  assert.deepEqual(lateHeard, [1]);
});

test("the same bytes by somebody else are another patch", async () => {
  const { core, store } = await following();
  const heard = [];
  store.on("update", ({ at }) => heard.push(at));
  store.append(Uint8Array.of(1)).catch(() => {});
  core.patches(1, { n: 1, body: Uint8Array.of(1) }, { n: 2, by: ME, body: Uint8Array.of(1) }, { n: 3, by: ME, body: Uint8Array.of(1) });
  assert.deepEqual(heard, [1, 3], "the second of them was its own");
});

test("an own patch of an earlier session is known, and told again from the beginning it counts", async () => {
  const { core, store, heard } = await following();
  const appended = store.append(Uint8Array.of(1));
  core.lost();
  core.connected({ ...session, id: "s2", member: "00000000000000bb" });
  core.opens(1, "recovered", 0);
  core.patches(1, { n: 1, by: ME, before: true });
  core.answers(1, position(1));
  await appended;
  assert.deepEqual(heard, []);
  core.opens(1, "diverged", 0);
  core.patches(1, { n: 1, by: ME, before: true });
  assert.deepEqual(heard, [1]);
});

test("one that was confirmed and not told yet is told from the beginning, too", async () => {
  const { core, store, heard } = await following();
  const appended = store.append(Uint8Array.of(1));
  core.answers(1, position(1));
  await appended;
  core.lost();
  core.connected();
  core.opens(1, "recovered", 0);
  core.patches(1, { n: 1, by: ME, before: true });
  assert.deepEqual(heard, []);
  const again = store.append(Uint8Array.of(2));
  core.answers(2, position(2));
  await again;
  core.opens(1, "trimmed", 0);
  core.patches(1, { n: 1, by: ME, before: true }, { n: 2, by: ME, before: true });
  assert.deepEqual(heard, [1, 2]);
});

test("what the server refuses is a ChannelError", async () => {
  const { core, store } = await following();
  const appended = store.append(Uint8Array.of(1));
  core.refuses(1, "forbidden");
  await assert.rejects(appended, (error) => error instanceof ChannelError && error.code === "forbidden");
  await assert.rejects(store.append([1]), { code: "unreadable" });
  await assert.rejects(store.append(new Uint8Array(1), { key: "k" }), { code: "invalid_option" });
});

test("a snapshot names what it covers", async () => {
  const { core, store } = await following();
  const kept = store.snapshot(Uint8Array.of(9), at(3));
  assert.deepEqual(requests(core), [{ kind: STORE, what: SNAPSHOT, name: "notes/1", target: position(3), body: Uint8Array.of(9), key: undefined }]);
  core.ends(1);
  assert.equal(await kept, undefined);
  await assert.rejects(store.snapshot(Uint8Array.of(9), "nowhere"), { code: "unknown_position" });
});

test("values go and come under their hash", async () => {
  const { core, store } = await following();
  const stored = Uint8Array.of(0, 1, 2);
  const id = createHash("sha256").update(stored).digest("hex");
  const put = store.putValue(Uint8Array.of(1, 2));
  await asked(core, 1);
  assert.deepEqual(requests(core), [{ kind: STORE, what: KEEP, name: "notes/1", target: Uint8Array.from(Buffer.from(id, "hex")), body: stored, key: undefined }]);
  core.ends(1);
  assert.equal(await put, id);
  const value = store.value(id);
  await asked(core, 2);
  assert.equal(requests(core)[1].what, VALUE);
  core.answers(2, stored);
  assert.deepEqual(await value, Uint8Array.of(1, 2));
  const wrong = store.value(id);
  await asked(core, 3);
  core.answers(3, Uint8Array.of(0, 1, 3));
  await assert.rejects(wrong, { code: "corrupt_value" });
  await assert.rejects(store.value("x"), { code: "invalid_option" });
});

test("everything takes a signal and a limit", async () => {
  const { core, store } = await following();
  const abort = new AbortController();
  const going = [
    store.append(Uint8Array.of(1), { signal: abort.signal }), store.snapshot(Uint8Array.of(1), at(1), { signal: abort.signal }),
    store.putValue(Uint8Array.of(1), { signal: abort.signal }), store.value("0".repeat(64), { signal: abort.signal }),
  ].map((each) => assert.rejects(each, (reason) => reason === "enough"));
  await asked(core, 4);
  abort.abort("enough");
  await Promise.all(going);
  assert.equal(core.only("cancel").length, 4);
  const late = store.append(Uint8Array.of(1), { timeoutMs: 1 });
  assert.ok(core.only("request").at(-1)[4].timeoutMs <= 1);
  late.catch(() => {});
});

test("closing ends everything, once", async () => {
  const { client, core, store } = await following({ offline: true });
  const appended = store.append(Uint8Array.of(1));
  const states = [];
  store.subscribe(({ status }) => states.push(status));
  store.close();
  store.close();
  await assert.rejects(appended, { code: "closed" });
  await assert.rejects(store.append(Uint8Array.of(1)), { code: "closed" });
  await assert.rejects(store.snapshot(Uint8Array.of(1), at(1)), { code: "closed" });
  await assert.rejects(store.ready(), { code: "closed" });
  assert.deepEqual([states, store.current.status, core.only("unfollow")], [["closed"], "closed", [["unfollow", 1]]]);
  assert.equal((await store[Symbol.asyncIterator]().next()).done, true);
  const closed = client.close();
  core.closed();
  await closed;
  const dead = client.store("notes/1", { offline: true });
  assert.equal(dead.current.status, "closed");
  await assert.rejects(dead.append(Uint8Array.of(1)), { code: "closed" });
});

test("the server may refuse it", async () => {
  const { client, core } = await opened();
  const store = client.store("notes/1", { offline: true });
  core.host.onChannelClosed(1, failure("forbidden"));
  assert.deepEqual([store.current.status, store.current.error.code], ["closed", "forbidden"]);
  await assert.rejects(store.ready(), { code: "forbidden" });
});

test("names and options are checked at once", async () => {
  const { client } = await opened();
  assert.throws(() => client.store(""), { code: "invalid_name" });
  assert.throws(() => client.store("a", { offlien: true }), { code: "invalid_option" });
  assert.throws(() => client.store("a", { buffer: 0 }), { code: "invalid_option" });
  assert.throws(() => client.store("a", { since: "x" }), { code: "invalid_option" });
  assert.throws(() => client.store("a").on("message", () => {}), { code: "invalid_option" });
});

test("offline, where there is no IndexedDB, patches wait in memory, and it says so", async () => {
  const { core, store, heard } = await following({ offline: true });
  assert.equal(store.current.offline, "memory");
  core.lost();
  const appended = store.append(Uint8Array.of(1));
  const impatient = store.append(Uint8Array.of(2), { timeoutMs: 5 });
  await assert.rejects(impatient, { code: "timeout" });
  assert.deepEqual([store.current.pending, requests(core)], [2, []], "it still waits");
  core.connected({ ...session, admission: identity("ann") });
  core.opens(1, "recovered", 0);
  await turn();
  assert.deepEqual(requests(core).map(({ body }) => body[0]), [1, 2]);
  assert.ok(requests(core).every(({ key }) => /^[0-9a-f]{32}$/.test(key)));
  core.patches(1, { n: 1, by: ME, before: true }, { n: 2, by: ME, before: true });
  core.answers(1, position(1));
  core.answers(2, position(2));
  assert.equal(await appended, at(1));
  await turn();
  assert.deepEqual([store.current.pending, heard], [0, []]);
});

test("who signs in as somebody else does not send what is not his", async () => {
  const { client, core, store } = await following({ offline: true });
  core.lost();
  store.append(Uint8Array.of(1)).catch(() => {});
  core.connected({ ...session, admission: identity("bob") });
  core.opens(1, "recovered", 0);
  await turn();
  assert.deepEqual(requests(core), []);
  const signedIn = client.authenticate({ token: "ann's" });
  core.host.onAuthenticated(1, identity("ann"), undefined);
  await signedIn;
  await turn();
  assert.equal(requests(core).length, 1);
});

test("a refused patch is told and kept aside", async () => {
  const { core, store } = await following({ offline: true });
  const told = [];
  store.on("refused", (refused) => told.push(refused));
  const appended = store.append(Uint8Array.of(1));
  await turn();
  core.refuses(1, "too_large");
  await assert.rejects(appended, { code: "too_large" });
  assert.deepEqual([told.length, told[0].error.code, store.refused.length, store.current.pending], [1, "too_large", 1, 0]);
  told[0].discard();
  assert.deepEqual(store.refused, []);
});

test("a listener may do anything", async () => {
  const { core, store } = await following();
  const seen = [];
  store.on("update", ({ data }) => {
    seen.push(data[0]);
    if (data[0] === 1) store.append(Uint8Array.of(2)).catch(() => {});
    if (data[0] === 3) store.close();
  });
  core.patches(1, 1, 3, 4);
  await turn();
  assert.deepEqual(seen, [1, 3]);
});

// It was given up before it began, as everywhere else; only here it was kept and sent all the same.
test("regression: a patch whose signal has aborted is not taken", async () => {
  for (const offline of [true, false]) {
    const { core, store } = await following({ offline });
    await assert.rejects(store.append(Uint8Array.of(1), { signal: AbortSignal.abort("no") }), (reason) => reason === "no");
    await turn();
    assert.deepEqual([store.current.pending, requests(core)], [0, []]);
  }
});

test("what is called back and sent again does not come back either, whichever of both arrived", async () => {
  const { core, store, heard } = await following({ offline: true });
  const appended = store.append(Uint8Array.of(1));
  await turn();
  core.lost();
  await turn();
  assert.deepEqual(core.only("cancel"), [["cancel", 1]]);
  core.connected({ ...session, id: "s2", member: "00000000000000bb", admission: identity("ann") });
  core.opens(1, "recovered", 0);
  core.patches(1, { n: 1, by: ME, before: true });
  await turn();
  assert.deepEqual(requests(core).map(({ body }) => body[0]), [1, 1]);
  core.answers(2, position(1));
  assert.equal(await appended, at(1));
  assert.deepEqual(heard, []);
});

// Authenticate overtakes what waits for room: what was written as Ann was done as Bob.
test("regression: while somebody else signs in nothing of the queue is sent", async () => {
  const { client, core, store } = await following({ offline: true });
  store.append(Uint8Array.of(1)).catch(() => {});
  await turn();
  const signedIn = client.authenticate({ token: "bob's" });
  assert.deepEqual(core.log.map(([method]) => method).filter((method) => method === "cancel" || method === "authenticate"), ["cancel", "authenticate"]);
  store.append(Uint8Array.of(2)).catch(() => {});
  await turn();
  assert.equal(requests(core).length, 1);
  core.host.onAuthenticated(1, undefined, failure("unauthorized"));
  await assert.rejects(signedIn);
  await turn();
  assert.deepEqual(requests(core).map(({ body }) => body[0]), [1, 1, 2], "he is not let in, and ann goes on");
});

test("what another person left is counted and told", async () => {
  const { core, store } = await following({ offline: true });
  const seen = [];
  core.lost();
  store.append(Uint8Array.of(1)).catch(() => {});
  store.subscribe(({ pending, withheld }) => seen.push([pending, withheld]));
  core.connected({ ...session, admission: identity("bob") });
  core.opens(1, "recovered", 0);
  await turn();
  assert.deepEqual(store.withheld.map(({ tenant, subject, patches }) => [tenant, subject, patches]), [["t", "ann", 1]]);
  assert.deepEqual(seen.at(-1), [0, 1]);
  store.withheld[0].discard();
  assert.deepEqual([seen.at(-1), store.withheld], [[0, 0], []]);
});

test("a loop is told that the store is synced when it takes what was there", async () => {
  const { client, core } = await opened();
  const store = client.store("notes/1");
  const seen = [];
  core.opens(1, "new", 0);
  core.patches(1, { n: 1, before: true });
  core.host.onCaughtUp(1);
  store.subscribe(({ synced }) => seen.push(synced));
  store[Symbol.asyncIterator]();
  assert.deepEqual(seen, [true]);
});
