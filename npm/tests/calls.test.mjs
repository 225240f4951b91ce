import assert from "node:assert/strict";
import { test } from "node:test";

import { MoorlineClient } from "../dist/client.js";
import { CallError } from "../dist/errors.js";
import { environment, failure, session, settings, turn } from "./fake-core.mjs";

/** A client whose core is there. */
async function opened(options) {
  const around = environment();
  const client = new MoorlineClient({ ...settings, ...options }, around);
  await turn();
  return { client, core: around.core };
}

/** A client that gets its core when `load` is called. */
function loading() {
  const around = environment();
  const Core = around.loadCore();
  let load;
  around.loadCore = () => new Promise((resolve) => (load = () => resolve(Core)));
  const client = new MoorlineClient(settings, around);
  return {
    client,
    async load() {
      await turn();
      load();
      await turn();
      return around.core;
    },
  };
}

test("a call carries JSON and resolves to JSON", async () => {
  const { client, core } = await opened();
  const call = client.call("say", { text: "hi" }, { timeoutMs: 500 });
  const [[, name, body, timeoutMs]] = core.only("call");
  assert.deepEqual([name, body], ["say", { text: "hi" }]);
  assert.ok(timeoutMs > 400 && timeoutMs <= 500);
  core.answers(1, { id: 3 });
  assert.deepEqual(await call, { id: 3 });
});

test("no argument is null, and a Uint8Array stays bytes both ways", async () => {
  const { client, core } = await opened();
  const [nothing, some] = [client.call("now"), client.call("upload", new Uint8Array([1, 2]))];
  assert.deepEqual(core.only("call").map(([, , body]) => body), [null, new Uint8Array([1, 2])]);
  core.answers(1, null);
  core.answers(2, new Uint8Array([3]));
  assert.equal(await nothing, null);
  assert.deepEqual(await some, new Uint8Array([3]));
});

test("a failure has the code, the registry's words where Rust sent none, and what the handler attached", async () => {
  const { client, core } = await opened();
  const [missing, illegal] = [client.call("nope"), client.call("move")];
  core.refuses(1, "not_found");
  core.refuses(2, "illegal_move", { message: "Move 3 is not allowed", encoding: 1, data: new TextEncoder().encode('{"move":3}') });
  await assert.rejects(missing, (error) => {
    assert.ok(error instanceof CallError);
    assert.equal(error.code, "not_found");
    assert.equal(error.message, "There is no handler of this name.");
    return /Check the name/.test(error.remedy);
  });
  await assert.rejects(illegal, { code: "illegal_move", message: "Move 3 is not allowed", remedy: "Move 3 is not allowed", data: { move: 3 } });
});

test("an answer that cannot be read rejects as unreadable", async () => {
  const { client, core } = await opened();
  const call = client.call("now");
  core.host.onSettled(1, true, 1, new Uint8Array([0xff]), undefined);
  await assert.rejects(call, { code: "unreadable" });
});

test("what has no JSON form is refused before anything is sent", async () => {
  const { client, core } = await opened();
  const cycle = {};
  cycle.self = cycle;
  for (const value of [cycle, 1n, () => {}, Symbol("s"), new ArrayBuffer(2), new Float32Array(2), new DataView(new ArrayBuffer(1))]) {
    await assert.rejects(client.call("take", value), { code: "unreadable" });
  }
  assert.throws(() => client.notify("take", new ArrayBuffer(2)), { code: "unreadable", remedy: /new Uint8Array/ });
  assert.deepEqual(core.log, [["start"]]);
});

test("what the core throws rejects the call", async () => {
  const { client, core } = await opened();
  core.throws.call = failure("too_large", { message: "Larger than 64,512 bytes" });
  await assert.rejects(client.call("say", "…"), { name: "CallError", code: "too_large", message: "Larger than 64,512 bytes" });
  core.throws.notify = failure("backpressure", { retryable: true });
  assert.throws(() => client.notify("say", "…"), { name: "CallError", code: "backpressure", retryable: true });
});

test("a name that is no name is refused", async () => {
  const { client } = await opened();
  await assert.rejects(client.call(""), { code: "invalid_name" });
  assert.throws(() => client.notify(7), { code: "invalid_name" });
  assert.throws(() => client.handle("", () => {}), { code: "invalid_name" });
  assert.throws(() => client.listen(undefined, () => {}), { code: "invalid_name" });
});

test("a wrong option of a call is refused with the nearest name", async () => {
  const { client, core } = await opened();
  await assert.rejects(client.call("now", null, { timeout: 5 }), { code: "invalid_option", remedy: /`timeoutMs`/ });
  await assert.rejects(client.call("now", null, { timeoutMs: 0 }), { code: "invalid_option" });
  assert.throws(() => client.notify("now", null, { volatil: true }), { remedy: /`volatile`/ });
  assert.deepEqual(core.log, [["start"]]);
});

test("an abort cancels the call, rejects with its reason, and a later answer changes nothing", async () => {
  const { client, core } = await opened();
  const reason = new Error("enough");
  const abort = new AbortController();
  const call = client.call("slow", null, { signal: abort.signal });
  abort.abort(reason);
  core.answers(1, "late");
  await assert.rejects(call, reason);
  assert.deepEqual(core.only("cancel"), [["cancel", 1]]);
});

test("an abort before the call sends nothing, and one after the answer does nothing", async () => {
  const { client, core } = await opened();
  await assert.rejects(client.call("now", null, { signal: AbortSignal.abort("no") }), (reason) => reason === "no");
  assert.deepEqual(core.only("call"), []);
  const abort = new AbortController();
  const call = client.call("now", null, { signal: abort.signal });
  core.answers(1, 1);
  assert.equal(await call, 1);
  abort.abort();
  assert.deepEqual(core.only("cancel"), []);
});

test("calls and notifications made before the wasm is there are sent in order", async () => {
  const { client, load } = loading();
  const a = client.call("a");
  client.notify("b", { n: 1 });
  client.notify("dropped", null, { volatile: true });
  const c = client.call("c", null, { timeoutMs: Infinity });
  const core = await load();
  assert.deepEqual(core.log.map(([method, name]) => name ?? method), ["start", "a", "b", "c"]);
  assert.ok(core.only("call").at(-1)[3] > 2_000_000_000, "no limit is a finite number for the core");
  core.answers(2, "c");
  core.answers(1, "a");
  assert.deepEqual(await Promise.all([a, c]), ["a", "c"]);
});

test("what is made while the waiting ones are sent comes after them", async () => {
  const { client, load } = loading();
  client.on("status", () => client.notify("from the listener"));
  client.notify("first");
  await turn();
  const loaded = load();
  await turn();
  const core = await loaded;
  core.lost();
  assert.deepEqual(core.only("notify").map(([, name]) => name), ["first", "from the listener"]);
});

test("regression: a status told within start does not let a listener overtake what waits", async () => {
  const around = environment();
  const Core = await around.loadCore();
  around.loadCore = async () => class extends Core {
    start() {
      super.start();
      this.host.onStatus({ status: "connecting", attempt: 1 });
    }
  };
  const client = new MoorlineClient(settings, around);
  client.on("status", () => client.notify("second"));
  client.notify("first");
  await turn();
  assert.deepEqual(around.core.only("notify").map(([, name]) => name), ["first", "second"]);
});

test("bytes that wait are a copy", async () => {
  const { client, load } = loading();
  const buffer = new Uint8Array([1]);
  client.notify("bytes", buffer);
  buffer[0] = 9;
  const core = await load();
  assert.deepEqual(core.only("notify")[0][2], new Uint8Array([1]));
});

test("a call that waits for the wasm times out and aborts on its own, and is not sent later", async () => {
  const { client, load } = loading();
  const abort = new AbortController();
  const [timed, aborted] = [client.call("timed", null, { timeoutMs: 1 }), client.call("aborted", null, { signal: abort.signal })];
  abort.abort("gone");
  await assert.rejects(aborted, (reason) => reason === "gone");
  await assert.rejects(timed, { name: "CallError", code: "timeout", retryable: true });
  assert.deepEqual((await load()).only("call", "cancel"), []);
});

test("the backlog is bounded by number and by bytes", async () => {
  const many = loading();
  for (let n = 0; n < 2_048; n++) many.client.notify("n", n);
  assert.throws(() => many.client.notify("n"), { code: "backpressure" });
  await assert.rejects(many.client.call("n"), { code: "backpressure" });
  const large = loading();
  large.client.notify("half", new Uint8Array(600_000));
  large.client.notify("half", new Uint8Array(600_000)); // The last one may stand out.
  assert.throws(() => large.client.notify("none", new Uint8Array(1)), { code: "backpressure" });
  await Promise.all([many.client.close(), large.client.close()]);
});

test("a waiting notification that the core refuses is told as an error event", async () => {
  const around = environment();
  const Core = await around.loadCore();
  around.loadCore = async () => class extends Core {
    throws = { notify: failure("invalid_name"), call: failure("invalid_name") };
  };
  const client = new MoorlineClient(settings, around);
  const errors = [];
  client.on("error", (error) => errors.push(error.code));
  client.notify("x".repeat(300));
  await assert.rejects(client.call("x".repeat(300)), { code: "invalid_name" });
  assert.deepEqual(errors, ["invalid_name"]);
});

test("a call that times out while not connected says why there is no connection", async () => {
  const { client, core } = await opened();
  core.lost({ error: failure("server_unreachable") });
  const call = client.call("now");
  core.refuses(1, "timeout");
  await assert.rejects(call, ({ code, message, cause }) => {
    assert.equal(message, "No answer in time: Nothing answers at the server's address.");
    return code === "timeout" && cause.code === "server_unreachable";
  });
  core.connected();
  const slow = client.call("slow");
  core.refuses(2, "timeout");
  await assert.rejects(slow, ({ code, cause }) => code === "timeout" && cause === undefined);
});

test("closing rejects what waits, and what is open once the core has had its say", async () => {
  const waiting = loading();
  const call = waiting.client.call("never");
  const closing = waiting.client.close();
  await assert.rejects(call, { name: "CallError", code: "closed" });
  await closing;

  const { client, core } = await opened();
  const [told, untold] = [client.call("told"), client.call("untold")];
  client.close();
  core.closed();
  core.refuses(1, "unknown");
  await assert.rejects(told, { code: "unknown" });
  await assert.rejects(untold, { code: "closed" });
});

test("a closed client refuses calls and notifications, and drops volatile ones", async () => {
  const { client, core } = await opened();
  client.close();
  await assert.rejects(client.call("now"), { code: "closed" });
  assert.throws(() => client.notify("now"), { code: "closed" });
  client.notify("now", null, { volatile: true });
  core.closed();
  await turn();
  client.notify("now", null, { volatile: true });
  await assert.rejects(client.call("now"), { code: "closed" });
});

test("a call that is given up after the end asks nothing of the freed core", async () => {
  const { client, core } = await opened();
  const abort = new AbortController();
  const call = client.call("slow", null, { signal: abort.signal });
  core.closed();
  abort.abort("gone");
  await assert.rejects(call, (reason) => reason === "gone");
  await turn();
  assert.ok(core.freed);
});

test("volatile is passed on while there is a core", async () => {
  const { client, core } = await opened();
  client.notify("cursor", { x: 1 }, { volatile: true });
  client.notify("chat", "hi");
  assert.deepEqual(core.only("notify"), [["notify", "cursor", { x: 1 }, true], ["notify", "chat", "hi", false]]);
});

/** A call that waited for room made every cursor that moved throw `backpressure`, which is for who may not be dropped. */
test("regression: volatile overtakes what waits for room, and is never refused for want of it", async () => {
  const { client, core } = await opened();
  core.throws.call = failure("backpressure");
  const waiting = client.call("first");
  client.notify("cursor", 1, { volatile: true });
  assert.deepEqual(core.only("notify"), [["notify", "cursor", 1, true]]);
  assert.throws(() => client.notify("plain"), { code: "backpressure" });
  core.host.onRoom();
  core.answers(1, "done");
  assert.equal(await waiting, "done");
});

/** What was dropped before there was a server was remembered for its limit: for ever, and blamed as too large. */
test("regression: nothing is kept of a volatile notification that is dropped before the first session", async () => {
  const { client, core } = await opened();
  const errors = [];
  client.on("error", ({ code }) => errors.push(code));
  client.notify("cursor", "x".repeat(100), { volatile: true });
  client.notify("plain", "x".repeat(100));
  core.connected({ ...session, limits: { maxMessage: 50, maxCallsInFlight: 1 } });
  assert.deepEqual(errors, ["too_large"], "of the plain one alone");
});

test("without room calls wait for it in order, and a plain notification is refused", async () => {
  const { client, core } = await opened();
  core.throws.call = failure("backpressure");
  const [first, second] = [client.call("first"), client.call("second")];
  const told = client.notify("third", null, { acknowledged: true });
  assert.throws(() => client.notify("plain"), { code: "backpressure", retryable: true });
  assert.deepEqual(core.log.map(([, name]) => name).slice(1), ["first"], "nobody overtakes who waits");
  core.throws.call = failure("backpressure");
  core.host.onRoom();
  core.host.onRoom();
  assert.deepEqual(core.log.map(([, name]) => name).slice(1), ["first", "first", "first", "second", "third"]);
  core.answers(1, 1);
  core.answers(2, 2);
  core.host.onConfirmed(1);
  assert.deepEqual(await Promise.all([first, second, told]), [1, 2, undefined]);
  client.notify("plain");
  assert.equal(core.only("notify").length, 1);
});

test("who waits for room waits within the own time, and is not sent later", async () => {
  const { client, core } = await opened();
  core.throws.call = failure("backpressure");
  await assert.rejects(client.call("late", null, { timeoutMs: 5 }), { code: "timeout" });
  core.host.onRoom();
  assert.equal(core.only("call").length, 1);
  client.notify("plain");
  assert.equal(core.only("notify").length, 1, "nobody waits any more");
});

test("an acknowledged notification resolves when the server has it, and is unknown after a reset", async () => {
  const { client, core } = await opened();
  const [got, lost, aborted, late] = [1, 2, 3, 4].map((n) => {
    const options = n === 3 ? { signal: AbortSignal.timeout(1) } : n === 4 ? { timeoutMs: 1 } : {};
    return client.notify("note", n, { acknowledged: true, ...options });
  });
  assert.deepEqual(core.only("notifyConfirmed").map(([, name, n]) => [name, n]), [["note", 1], ["note", 2], ["note", 3], ["note", 4]]);
  await assert.rejects(aborted, { name: "TimeoutError" });
  await assert.rejects(late, { name: "CallError", code: "timeout" });
  core.host.onConfirmed(1);
  core.host.onReset("restart", ["note", 2, "note", 3]);
  assert.equal(await got, undefined);
  await assert.rejects(lost, { name: "CallError", code: "unknown", remedy: /Ask for the state/ });
});

test("an acknowledged notification ends with the client, and one above the limit with the session that tells it", async () => {
  const { client, core } = await opened();
  const open = client.notify("note", 1, { acknowledged: true });
  const large = client.notify("large", new Uint8Array(100_000), { acknowledged: true });
  const errors = [];
  client.on("error", ({ code, message }) => errors.push([code, message]));
  client.notify("plain", new Uint8Array(100_000));
  core.host.onRefused(2, failure("too_large"));
  core.connected();
  await assert.rejects(large, { code: "too_large" });
  assert.deepEqual(errors, [["too_large", "The server takes no notification as large as `plain`"]]);
  client.close();
  core.closed();
  await assert.rejects(open, { code: "closed" });
});

test("options that make no sense together are refused", async () => {
  const { client, core } = await opened();
  const wrong = { code: "invalid_option" };
  await assert.rejects(client.notify("n", 1, { acknowledged: true, volatile: true }), wrong);
  assert.throws(() => client.notify("n", 1, { timeoutMs: 5 }), { ...wrong, message: /without `acknowledged: true`/ });
  for (const idempotencyKey of ["", "ä".repeat(101), "a\nb", 7]) await assert.rejects(client.call("n", 1, { idempotencyKey }), wrong);
  for (const buffer of [0, 1.5, Infinity, 65_537]) assert.throws(() => client.stream("n", 1, { buffer }), wrong);
  assert.throws(() => client.notify("n", 1, { offline: "drop" }), wrong);
  assert.deepEqual(core.log, [["start"]]);
});

test("a key goes with its call", async () => {
  const { client, core } = await opened();
  client.call("pay", 1, { idempotencyKey: "ä".repeat(100) }).catch(() => {});
  assert.equal(core.only("call")[0][4], "ä".repeat(100));
  client.close();
});

test("offline: fail sends nothing without a connection", async () => {
  const { client, core } = await opened({ offline: "fail" });
  core.lost();
  const refused = { name: "CallError", code: "connection_lost" };
  await assert.rejects(client.call("a"), refused);
  await assert.rejects(client.notify("a", 1, { acknowledged: true }), refused);
  await assert.rejects(client.stream("a").next(), refused);
  assert.throws(() => client.notify("a"), refused);
  client.notify("a", 1, { volatile: true });
  client.notify("kept", 1, { offline: "queue" });
  assert.deepEqual(core.only("call", "notify").map(([, name]) => name), ["a", "kept"]);
  core.connected();
  client.notify("b");
  assert.equal(core.only("notify").length, 3);
});

test("regression: data without JSON form leaves no timer and no second rejection behind", async () => {
  const { client } = await opened();
  await assert.rejects(client.call("a", 1n, { timeoutMs: 1 }), { code: "unreadable" });
  await assert.rejects(client.notify("a", 1n, { acknowledged: true, timeoutMs: 1 }), { code: "unreadable" });
  await turn();
});
