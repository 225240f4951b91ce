import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { MoorlineClient } from "../dist/client.js";
import { ConnectError } from "../dist/errors.js";
import { environment, failure, session, settings, turn } from "./fake-core.mjs";

function open(overrides, options) {
  const around = environment(overrides);
  const client = new MoorlineClient({ ...settings, ...options }, around);
  return { around, client };
}

async function opened(overrides, options) {
  const { around, client } = open(overrides, options);
  await turn();
  return { around, client, core: around.core };
}

test("nothing happens within the task of connect", async () => {
  const { around, client } = open();
  await Promise.resolve();
  assert.equal(around.loads, 0);
  assert.deepEqual({ ...client.status }, { status: "connecting", attempt: 1, retryInMs: undefined, error: undefined });
  await turn();
  assert.deepEqual(around.cores[0].log, [["start"]]);
  client.close();
});

test("closing in the opening tick loads no wasm and asks for no socket", async () => {
  let asked = 0;
  const { around, client } = open({ findWebSocket: async () => void asked++ });
  await client.close();
  await turn();
  assert.equal(around.loads + asked, 0);
  assert.equal(client.status.status, "closed");
  assert.equal(client.status.error, undefined);
});

test("closing while the wasm loads makes no core", async () => {
  let finish;
  const { around, client } = open({ loadCore: () => new Promise((resolve) => (finish = resolve)) });
  await turn();
  await client.close();
  finish(class { constructor() { assert.fail("a core was made"); } });
  await turn();
  assert.equal(around.cores.length, 0);
});

test("status is the same frozen object until something changes", async () => {
  const { client, core } = await opened();
  const seen = [];
  client.on("status", (status) => seen.push(status));
  core.connected();
  assert.equal(client.status, client.status);
  assert.equal(client.status, seen[0]);
  assert.ok(Object.isFrozen(client.status));
  core.lost();
  assert.equal(client.status.retryInMs, 100);
  assert.ok(client.status.error instanceof ConnectError);
  assert.equal(client.status.error.code, "connection_lost");
  assert.match(client.status.error.remedy, /connects again by itself/);
  client.close();
});

test("the session is there before the status says connected, and stays afterwards", async () => {
  const { client, core } = await opened();
  assert.equal(client.session, undefined);
  const order = [];
  client.on("session", ({ id }) => order.push(id));
  client.on("status", ({ status }) => order.push(`${status} ${client.session?.id}`));
  core.connected();
  core.lost();
  assert.deepEqual(order, ["s1", "connected s1", "connecting s1"]);
  assert.deepEqual(client.session, session);
  assert.ok(Object.isFrozen(client.session.encryption));
  client.close();
});

test("ready waits for the connection, and is at once there when connected", async () => {
  const { client, core } = await opened();
  const ready = client.ready();
  core.connected();
  assert.equal((await ready).id, "s1");
  assert.equal((await client.ready({ timeoutMs: 1 })).id, "s1");
  client.close();
});

test("ready rejects with what closed the client, the abort's reason, or a timeout that names the cause", async () => {
  const { client, core } = await opened();
  const ready = client.ready();
  const reason = new Error("changed my mind");
  await assert.rejects(client.ready({ signal: AbortSignal.abort(reason) }), reason);
  core.lost({ error: failure("server_unreachable") });
  await assert.rejects(client.ready({ timeoutMs: 1 }), ({ code, message, remedy, cause }) => {
    assert.equal(code, "timeout");
    assert.equal(message, "Not connected within 1 ms: Nothing answers at the server's address.");
    assert.equal(cause.code, "server_unreachable");
    return remedy === cause.remedy;
  });
  core.closed(failure("unauthorized", { ref: "r-1" }));
  await assert.rejects(ready, (error) => error instanceof ConnectError && error.code === "unauthorized" && error.ref === "r-1");
  await assert.rejects(client.ready(), { code: "unauthorized" });
});

test("why the last try failed stays until a try succeeds", async () => {
  const { client, core } = await opened();
  core.lost({ error: failure("server_unreachable") });
  core.lost({ attempt: 2, retryInMs: undefined, error: undefined });
  assert.deepEqual([client.status.retryInMs, client.status.error.code], [undefined, "server_unreachable"]);
  core.connected();
  assert.equal(client.status.error, undefined);
  client.close();
});

test("close says goodbye once, settles once and frees the core after the core has ended", async () => {
  const { client, core } = await opened();
  const first = client.close();
  assert.equal(client.close(), first);
  assert.deepEqual(core.only("close", "free"), [["close"]]);
  assert.equal(client.status.status, "connecting", "the core tells when the end is reached");
  core.closed();
  assert.equal(core.freed, false, "not within the core's own call");
  await first;
  assert.equal(client.status.status, "closed");
  assert.deepEqual(core.only("close", "free"), [["close"], ["free"]]);
  assert.equal(client.stats().bytesSent, 3, "the last counters stay");
  client.ping();
  await client.close();
});

test("a core may close within the call of close", async () => {
  const { client, core } = await opened();
  core.close = () => core.closed();
  await client.close();
  assert.ok(core.freed);
});

test("a stop from the server ends the client with its error", async () => {
  const { client, core } = await opened();
  core.closed(failure("superseded"));
  assert.deepEqual([client.status.status, client.status.error.code], ["closed", "superseded"]);
  await client.close();
  await assert.rejects(client.call("now"), ({ code, cause }) => code === "closed" && cause.code === "superseded");
});

test("a final failure to load closes the client and every waiting call", async () => {
  const { client } = open({ loadCore: async () => { throw new ConnectError("wasm_blocked"); } });
  const call = client.call("now");
  const ready = client.ready();
  await assert.rejects(ready, { code: "wasm_blocked" });
  await assert.rejects(call, ({ code, remedy }) => code === "closed" && /wasm-unsafe-eval/.test(remedy));
  assert.equal(client.status.error.code, "wasm_blocked");
});

test("an option that only the core can judge closes the client with its code", async () => {
  const loadCore = async () => class { constructor() { throw failure("invalid_server_key"); } };
  const { client } = open({ loadCore });
  await assert.rejects(client.ready(), { code: "invalid_server_key", name: "ConnectError" });
});

test("a failed download is tried again, and the tries are counted on", async () => {
  const good = environment();
  let failures = 2;
  const loadCore = async () => {
    if (failures-- > 0) throw new ConnectError("wasm_not_found", "offline", { retryable: true });
    return good.loadCore();
  };
  const { client } = open({ loadCore });
  const seen = [];
  client.on("status", ({ status, attempt, retryInMs, error }) => seen.push([status, attempt, retryInMs === undefined, error?.code]));
  const now = client.call("now");
  while (!good.core) await turn();
  good.core.connected();
  good.core.lost();
  assert.deepEqual(seen, [
    ["connecting", 2, false, "wasm_not_found"],
    ["connecting", 2, true, "wasm_not_found"],
    ["connecting", 3, false, "wasm_not_found"],
    ["connecting", 3, true, "wasm_not_found"],
    ["connected", 3, true, undefined],
    ["connecting", 1, false, "connection_lost"],
  ]);
  good.core.answers(1, 42);
  assert.equal(await now, 42, "the call has waited through all of it");
  client.close();
});

test("without reconnect the first failed download closes", async () => {
  const loadCore = async () => { throw new ConnectError("wasm_not_found", "offline", { retryable: true }); };
  const { client } = open({ loadCore }, { reconnect: false });
  await assert.rejects(client.ready(), { code: "wasm_not_found" });
});

test("a listener that throws is reported and does not keep the others from hearing", async () => {
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  const { client, core } = await opened();
  let heard = 0;
  client.on("status", () => { throw new Error("mine"); });
  client.on("status", () => heard++);
  core.connected();
  delete globalThis.reportError;
  assert.deepEqual([heard, reported], [1, ["mine"]]);
  client.close();
});

test("a listener may close the client, and every unsubscribe is its own", async () => {
  const { client, core } = await opened();
  let heard = 0;
  const listener = () => heard++;
  const off = client.on("status", listener);
  client.on("status", listener);
  off();
  off();
  client.on("status", ({ status }) => { if (status === "connected") client.close(); });
  core.connected();
  assert.equal(heard, 1);
  assert.deepEqual(core.only("close"), [["close"]]);
});

test("an unknown event is refused with the nearest name", async () => {
  const { client } = open();
  assert.throws(() => client.on("stauts", () => {}), { code: "invalid_option", remedy: /`status`/ });
  client.close();
});

test("using and await using close", async () => {
  const { client, core } = await opened();
  client[Symbol.dispose]();
  core.closed();
  await client[Symbol.asyncDispose]();
  assert.equal(client.status.status, "closed");
});

test("reconnect ends the wait for the next try, and does nothing before the wasm is there or after the end", async () => {
  const around = environment();
  const client = new MoorlineClient(settings, around);
  client.reconnect();
  await turn();
  client.reconnect();
  assert.equal(around.core.only("retryNow").length, 1);
  around.core.closed();
  client.reconnect();
  assert.equal(around.core.only("retryNow").length, 1);
});

test("discovery hands over whatever came", async (t) => {
  const { client, core } = await opened();
  const answers = {
    7: new Response('{"version":1}', { status: 200 }),
    8: new Response("<!doctype html>", { status: 404 }),
  };
  mock.method(globalThis, "fetch", async (url, { mode, cache, credentials, signal }) => {
    const [, ticket] = url.match(/^http:\/\/test\/moorline\/(\d+)$/);
    assert.deepEqual([cache, credentials, signal instanceof AbortSignal], ["no-store", "omit", true]);
    // Nobody answers 9. Somebody answers 10, but without the header that lets a page read it.
    if (mode === "no-cors" && ticket === "10") return { type: "opaque", status: 0 };
    if (!answers[ticket]) throw new TypeError("fetch failed");
    return answers[ticket];
  });
  t.after(() => mock.restoreAll());
  for (const ticket of [7, 8, 9, 10]) core.host.discover(ticket, `http://test/moorline/${ticket}`);
  await turn();
  const told = core.only("discovered").sort((a, b) => a[1] - b[1]);
  assert.deepEqual(told, [
    ["discovered", 7, { kind: "answer", status: 200, document: { version: 1 } }],
    ["discovered", 8, { kind: "answer", status: 404, document: undefined }],
    ["discovered", 9, { kind: "unreachable" }],
    ["discovered", 10, { kind: "answer", status: 0 }],
  ]);
  core.host.discover(7, "http://test/moorline/7");
  core.closed();
  await turn();
  assert.equal(core.only("discovered").length, 4, "a late answer finds no core");
  assert.equal(client.status.status, "closed");
});

/** What discovery fetches and hands over, when `answer` answers. */
async function discovered(t, answer) {
  const { client, core } = await opened();
  const asked = [];
  mock.method(globalThis, "fetch", async (url) => (asked.push(url), answer()));
  t.after(() => mock.restoreAll());
  core.host.discover(1, "http://test/moorline");
  await turn();
  client.close();
  return { asked, result: core.only("discovered")[0]?.[2] };
}

// A killed server that was started again: nobody took the first question, and the second, which only tells whether somebody
// is there, was taken for the answer of another kind of server.
test("regression: a server that comes up between two questions is asked again", async (t) => {
  let down = 1;
  const { asked, result } = await discovered(t, () => {
    if (down-- > 0) throw new TypeError("fetch failed");
    return Response.json({ moorline: 1 });
  });
  assert.deepEqual([asked.length, result], [3, { kind: "answer", status: 200, document: { moorline: 1 } }]);
});

test("regression: an answer that breaks off is none", async (t) => {
  let asked = 0;
  const broken = (body) => new ReadableStream({ start: (stream) => { stream.enqueue(new TextEncoder().encode(body)); stream.error(new TypeError("terminated")); } });
  const { result } = await discovered(t, () => {
    if (asked++ > 0) throw new TypeError("fetch failed");
    return new Response(broken('{"moorline":'));
  });
  assert.deepEqual(result, { kind: "unreachable" });
});

test("discovery says the page's origin, where it has one", async (t) => {
  t.after(() => delete globalThis.location);
  const origins = { "http://127.0.0.1:5173": "?origin=http%3A%2F%2F127.0.0.1%3A5173", null: "", "": "" };
  for (const [origin, query] of Object.entries(origins)) {
    globalThis.location = { origin };
    const { asked } = await discovered(t, () => Response.json({}));
    assert.deepEqual(asked, [`http://test/moorline${query}`], origin);
    mock.restoreAll();
  }
});

test("discovery reads no more than 64 KiB", async (t) => {
  const padded = (length) => `{"a":"${" ".repeat(length - 8)}"}`;
  const { result } = await discovered(t, () => new Response(padded(64 * 1024)));
  assert.equal(result.document.a.length, 64 * 1024 - 8);
  mock.restoreAll();
  let pulled = 0;
  const endless = new ReadableStream({ pull: (body) => { pulled++; body.enqueue(new Uint8Array(16 * 1024).fill(32)); } });
  const { result: cut } = await discovered(t, () => new Response(endless));
  assert.deepEqual(cut, { kind: "answer", status: 200, document: undefined });
  assert.ok(pulled < 10, `${pulled} chunks were taken`);
});

test("sockets are made by the class that was found", async () => {
  const { client, core } = await opened();
  const socket = core.host.openSocket("ws://test/moorline", ["moorline.v1"]);
  assert.deepEqual({ ...socket }, { url: "ws://test/moorline", protocols: ["moorline.v1"] });
  client.close();
});

test("a reset is told once with what is unconfirmed, before the next session", async () => {
  const { client, core } = await opened();
  const order = [];
  client.on("reset", (reset) => order.push(reset));
  client.on("session", ({ resumed }) => order.push(resumed));
  core.connected({ ...session, resumed: true });
  core.host.onReset("restart", ["say", -1, "note", 0, "note", 3]);
  core.connected();
  const [call, note] = [{ kind: "call", name: "say" }, { kind: "notify", name: "note" }];
  assert.deepEqual(order, [true, { reason: "restart", unconfirmed: [call, note, note] }, false]);
  assert.ok(Object.isFrozen(order[1].unconfirmed));
  client.close();
});

test("goaway is what the server sealed at the end of a connection, and nothing else", async () => {
  const { client, core } = await opened();
  const heard = [];
  client.on("goaway", (goaway) => heard.push(goaway));
  client.on("status", ({ status }) => heard.push(status));
  const error = failure("going_away", { ref: "00ff", retryAfterMs: 70 });
  core.lost({ error }); // A refusal: there was no connection.
  core.connected();
  core.lost({ error });
  core.lost({ error });
  core.connected();
  core.lost();
  const message = "The server ends this connection because it stops or restarts.";
  const goaway = { code: "going_away", message, retryAfterMs: 70 };
  assert.deepEqual(heard, ["connecting", "connected", goaway, "connecting", "connecting", "connected", "connecting"]);
  client.close();
});

test("the server's clock is Welcome's, half a round trip and what has passed since", async (t) => {
  const { client, core } = await opened();
  assert.equal(client.serverTimeMs(), undefined);
  assert.equal(client.stats().offsetMs, undefined);
  let passed = 1_000;
  t.mock.method(performance, "now", () => passed);
  t.mock.method(Date, "now", () => 49_000);
  core.connected({ ...session, serverTimeMs: 50_000 }); // The fake's round trip is 5 ms.
  passed += 200;
  assert.equal(client.serverTimeMs(), 50_202.5);
  assert.equal(client.stats().offsetMs, 1_202.5);
  t.mock.restoreAll();
  client.close();
});
