import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { MoorlineClient } from "../dist/client.js";
import { Fail } from "../dist/errors.js";
import { bytes, environment, failure, settings, turn } from "./fake-core.mjs";

async function opened() {
  const around = environment();
  const client = new MoorlineClient(settings, around);
  await turn();
  const { core } = around;
  const calls = (id, name, data = null, isStream = false) => {
    core.host.onCall(id, name, 1, bytes(data), isStream);
    return turn();
  };
  return { client, core, calls, answers: () => core.only("reply", "fail") };
}

test("a handler answers with what it returns or resolves to", async () => {
  const { client, calls, answers } = await opened();
  client.handle("double", (n) => n * 2);
  client.handle("later", async ({ text }, { client: same }) => same === client && text);
  client.handle("bytes", () => new Uint8Array([7]));
  client.handle("nothing", () => {});
  await calls(1, "double", 21);
  await calls(2, "later", { text: "hi" });
  await calls(3, "bytes");
  await calls(4, "nothing");
  assert.deepEqual(answers(), [["reply", 1, 42], ["reply", 2, "hi"], ["reply", 3, new Uint8Array([7])], ["reply", 4, null]]);
});

test("a name without handler is not_found", async () => {
  const { calls, answers } = await opened();
  await calls(1, "pickMove");
  assert.deepEqual(answers(), [["fail", 1, "not_found", "This client has no handler `pickMove`", undefined]]);
});

test("a second handler replaces the first, and only its own disposer removes it", async () => {
  const { client, calls, answers } = await opened();
  const first = client.handle("who", () => "first");
  const second = client.handle("who", () => "second");
  first();
  await calls(1, "who");
  second();
  await calls(2, "who");
  assert.deepEqual(answers().map(([method, , result]) => [method, result]), [["reply", "second"], ["fail", "not_found"]]);
});

test("Fail reaches the server with code, message and data", async () => {
  const { client, calls, answers } = await opened();
  client.handle("pickMove", () => { throw new Fail("no_move", "The game is over", { data: { moves: 9 } }); });
  await calls(1, "pickMove");
  assert.deepEqual(answers(), [["fail", 1, "no_move", "The game is over", { moves: 9 }]]);
});

test("any other error is internal for the server, and keeps its text here", async (t) => {
  const { client, calls, answers } = await opened();
  const secret = Object.assign(new Error("open /home/ann/keys"), { code: "ENOENT" });
  client.handle("read", () => { throw secret; });
  const log = mock.method(console, "error", () => {});
  t.after(() => mock.restoreAll());
  await calls(1, "read");
  assert.deepEqual(answers(), [["fail", 1, "internal", "The handler failed. Its log has the cause.", undefined]]);
  assert.equal(log.mock.calls[0].arguments[0].cause, secret);
  const errors = [];
  client.on("error", (error) => errors.push(error));
  await calls(2, "read");
  assert.equal(log.mock.callCount(), 1, "a listener takes the console's place");
  assert.equal(errors[0].cause, secret);
  assert.match(errors[0].message, /handler `read` failed/);
});

test("an answer without JSON form fails as unreadable", async () => {
  const { client, calls, answers } = await opened();
  client.handle("cycle", () => 1n);
  await calls(1, "cycle");
  assert.deepEqual(answers().map(([method, , code]) => [method, code]), [["fail", "unreadable"]]);
});

test("an answer that is too large is told here; the core has told the server", async () => {
  const { client, core, calls, answers } = await opened();
  const errors = [];
  client.on("error", ({ code }) => errors.push(code));
  client.handle("large", () => "…");
  core.throws.reply = failure("too_large");
  await calls(1, "large");
  assert.deepEqual([errors, answers().length], [["too_large"], 1]);
});

test("data that cannot be attached makes the failure internal", async (t) => {
  const { client, calls, answers } = await opened();
  mock.method(console, "error", () => {});
  t.after(() => mock.restoreAll());
  client.handle("odd", () => { throw new Fail("odd", "Odd", { data: 1n }); });
  await calls(1, "odd");
  assert.deepEqual(answers().map(([, , code]) => code), ["internal"]);
});

test("an async generator answers a stream, no faster than the server takes it", async () => {
  const { client, core, calls, answers } = await opened();
  client.handle("count", async function* (to) { for (let n = 1; n <= to; n++) yield n; });
  core.throws.item = failure("backpressure");
  await calls(1, "count", 2, true);
  const items = () => core.only("item").map(([, , item]) => item);
  assert.deepEqual(items(), [1], "refused");
  core.throws.item = failure("backpressure");
  core.host.onCredit(1);
  await turn();
  core.host.onRoom();
  await turn();
  assert.deepEqual(items(), [1, 1, 1, 2]);
  assert.deepEqual([core.only("end"), answers()], [[["end", 1]], []]);
  client.handle("one", () => 7);
  await calls(2, "one", null, true);
  assert.deepEqual(answers(), [["reply", 2, 7]], "one answer is all there is");
});

test("a stream's error reaches the server, and its end the generator", async () => {
  const { client, core, calls, answers } = await opened();
  let left = 0;
  client.handle("fails", async function* () { yield 1; throw new Fail("enough", "That was all"); });
  client.handle("endless", async function* () { try { for (;;) yield 1; } finally { left++; } });
  await calls(1, "fails", null, true);
  assert.deepEqual(answers(), [["fail", 1, "enough", "That was all", undefined]]);
  core.throws.item = failure("backpressure");
  await calls(2, "endless", null, true);
  core.host.onCancelled(2);
  await turn();
  core.throws.item = failure("too_large");
  const errors = [];
  client.on("error", ({ code }) => errors.push(code));
  await calls(3, "endless", null, true);
  assert.equal(left, 2);
  assert.deepEqual(answers().slice(1).map(([, id, code]) => [id, code]), [[3, "too_large"]]);
  assert.deepEqual(core.only("end"), []);
});

test("a generator where one answer was asked for is a fault of the page's", async () => {
  const { client, calls, answers } = await opened();
  const errors = [];
  client.on("error", ({ message }) => errors.push(message));
  client.handle("count", async function* () { yield 1; });
  await calls(1, "count");
  assert.deepEqual(answers().map(([, , code]) => code), ["internal"]);
  assert.match(errors[0], /asked for one answer/);
});

test("a cancelled call aborts its handler, whose answer is then dropped", async () => {
  const { client, core, calls, answers } = await opened();
  let reason;
  client.handle("slow", (_, { signal }) => new Promise((resolve) => {
    signal.addEventListener("abort", () => { reason = signal.reason.code; resolve("late"); });
  }));
  client.handle("stubborn", (_, { signal }) => new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
  }));
  await calls(1, "slow");
  await calls(2, "stubborn");
  core.host.onCancelled(1);
  core.host.onCancelled(2);
  core.host.onCancelled(99);
  await turn();
  assert.equal(reason, "cancelled");
  assert.deepEqual(answers(), []);
});

test("the end of the client aborts its handlers, and nothing is asked of the freed core", async () => {
  const { client, core, calls } = await opened();
  let aborted = false;
  let finish;
  client.handle("slow", (_, { signal }) => {
    signal.addEventListener("abort", () => (aborted = true));
    return new Promise((resolve) => (finish = resolve));
  });
  await calls(1, "slow");
  core.closed();
  await turn();
  finish("late");
  await turn();
  assert.ok(aborted && core.freed);
  assert.deepEqual(core.only("reply", "fail"), []);
});

test("close waits for no handler, not even one that never ends", async () => {
  const { client, core, calls } = await opened();
  client.handle("never", () => new Promise(() => {}));
  client.handle("endless", async function* () { for (;;) yield await new Promise(() => {}); });
  await calls(1, "never");
  await calls(2, "endless", null, true);
  core.close = () => core.closed();
  await client.close();
  assert.ok(core.freed);
});

test("every listener of a notification hears it, and an unreadable one is an error event", async () => {
  const { client, core } = await opened();
  const heard = [];
  const errors = [];
  client.on("error", ({ code }) => errors.push(code));
  const off = client.listen("chat", ({ text }) => heard.push(`a ${text}`));
  client.listen("chat", ({ text }) => heard.push(`b ${text}`));
  const message = (name, body) => core.host.onMessage(name, 1, body, false);
  message("chat", bytes({ text: "1" }));
  off();
  message("chat", bytes({ text: "2" }));
  message("unheard", new Uint8Array([0xff]));
  assert.deepEqual(errors, []);
  message("chat", new Uint8Array([0xff]));
  assert.deepEqual([heard, errors], [["a 1", "b 1", "b 2"], ["unreadable"]]);
});
