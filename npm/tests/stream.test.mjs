import assert from "node:assert/strict";
import { test } from "node:test";

import { MoorlineClient } from "../dist/client.js";
import { environment, failure, settings, turn } from "./fake-core.mjs";

async function opened() {
  const around = environment();
  const client = new MoorlineClient(settings, around);
  await turn();
  return { client, core: around.core };
}

/** What a loop sees: its items, and how it ended. */
async function read(stream) {
  const seen = [];
  try {
    for await (const item of stream) seen.push(item);
    return [...seen, "end"];
  } catch (error) {
    return [...seen, error.code ?? error];
  }
}

test("items come in order, and the end ends the loop", async () => {
  const { client, core } = await opened();
  const stream = client.stream("ticks", { every: 5 }, { timeoutMs: 500 });
  assert.deepEqual(core.only("call"), [], "nobody has asked for an item");
  const loop = read(stream);
  const [[, name, data, timeoutMs, key, credit]] = core.only("call");
  assert.deepEqual([name, data, key, credit], ["ticks", { every: 5 }, undefined, 64]);
  assert.ok(timeoutMs > 400 && timeoutMs <= 500);
  core.gives(1, 1);
  await turn();
  core.gives(1, 2, 3);
  core.host.onItem(1, 0, Uint8Array.of(4));
  core.ends(1);
  assert.deepEqual(await loop, [1, 2, 3, Uint8Array.of(4), "end"]);
  assert.deepEqual(await stream.next(), { value: undefined, done: true });
  assert.deepEqual(core.only("cancel"), []);
});

test("the server is asked for more when half of the buffer is read", async () => {
  const { client, core } = await opened();
  const stream = client.stream("ticks", null, { buffer: 4 });
  const first = stream.next();
  core.gives(1, 1, 2, 3, 4);
  await first;
  assert.deepEqual(core.only("grant"), []);
  await stream.next();
  assert.deepEqual(core.only("grant"), [["grant", 1, 2]]);
  await stream.next();
  await stream.next();
  assert.deepEqual(core.only("grant"), [["grant", 1, 2], ["grant", 1, 2]]);
  await stream.return();
});

test("leaving the loop cancels, however it is left", async () => {
  const { client, core } = await opened();
  const leaving = [
    async (stream) => { for await (const _ of stream) break; },
    async (stream) => { for await (const _ of stream) throw new Error("own"); },
    async (stream) => { for await (const _ of stream) return; },
  ];
  for (const [index, leave] of leaving.entries()) {
    const left = leave(client.stream("ticks"));
    core.gives(index + 1, 1, 2);
    await left.catch((error) => assert.equal(error.message, "own"));
    core.gives(index + 1, 3);
  }
  assert.deepEqual(core.only("cancel"), [["cancel", 1], ["cancel", 2], ["cancel", 3]]);
});

test("an error comes after the items before it, once", async () => {
  const { client, core } = await opened();
  const stream = client.stream("ticks");
  const first = stream.next();
  core.gives(1, 1, 2);
  core.refuses(1, "sold_out", { message: "No more" });
  await first;
  assert.deepEqual(await read(stream), [2, "sold_out"]);
  assert.deepEqual(await read(stream), ["end"]);
});

test("an abort ends the loop with its reason at once, and cancels", async () => {
  const { client, core } = await opened();
  const abort = new AbortController();
  const stream = client.stream("ticks", null, { signal: abort.signal });
  const first = stream.next();
  core.gives(1, 1, 2, 3);
  await first;
  abort.abort("enough");
  await turn();
  assert.deepEqual(await read(stream), ["enough"]);
  assert.deepEqual(core.only("cancel"), [["cancel", 1]]);
  assert.deepEqual(await read(client.stream("ticks", null, { signal: abort.signal })), ["enough"]);
  assert.equal(core.only("call").length, 1);
});

/** The server was done sooner than the loop, which then read on whatever its signal said. */
test("regression: an abort ends the loop also when the server has sent everything", async () => {
  for (const end of [(core) => core.ends(1), (core) => core.refuses(1, "sold_out")]) {
    const { client, core } = await opened();
    const abort = new AbortController();
    const stream = client.stream("ticks", null, { signal: abort.signal });
    const first = stream.next();
    core.gives(1, 1, 2, 3);
    end(core);
    await first;
    abort.abort("enough");
    await turn();
    assert.deepEqual(await read(stream), ["enough"]);
    assert.deepEqual(core.only("cancel"), [], "there is nothing left to cancel");
  }
});

test("a stream that is read to its end lets go of its signal", async () => {
  const { client, core } = await opened();
  const { signal } = new AbortController();
  let listeners = 0;
  const [add, remove] = [signal.addEventListener, signal.removeEventListener];
  signal.addEventListener = (...args) => (listeners++, add.apply(signal, args));
  signal.removeEventListener = (...args) => (listeners--, remove.apply(signal, args));
  const loop = read(client.stream("ticks", null, { signal }));
  assert.equal(listeners, 1);
  core.gives(1, 1);
  core.ends(1);
  assert.deepEqual(await loop, [1, "end"]);
  assert.equal(listeners, 0);
});

test("a stream waits for room, and leaving it before is no call at all", async () => {
  const { client, core } = await opened();
  core.throws.call = failure("backpressure");
  const loop = read(client.stream("first"));
  const left = client.stream("left");
  const next = left.next();
  await left.return();
  assert.deepEqual(await next, { value: undefined, done: true });
  core.host.onRoom();
  assert.deepEqual(core.only("call").map(([, name]) => name), ["first", "first"]);
  core.ends(1);
  assert.deepEqual(await loop, ["end"]);
});

test("a reset and the client's end are thrown in the loop", async () => {
  const { client, core } = await opened();
  const [lost, closed] = [read(client.stream("a")), read(client.stream("b"))];
  core.refuses(1, "unknown");
  client.close();
  core.closed();
  assert.deepEqual(await Promise.all([lost, closed]), [["unknown"], ["closed"]]);
});

test("a handler with one answer gives one item, and what cannot be read ends the loop and the call", async () => {
  const { client, core } = await opened();
  const one = read(client.stream("one"));
  core.answers(1, { n: 1 });
  assert.deepEqual(await one, [{ n: 1 }, "end"]);
  const odd = read(client.stream("odd"));
  core.host.onItem(2, 1, Uint8Array.of(0xff));
  assert.deepEqual(await odd, ["unreadable"]);
  assert.deepEqual(core.only("cancel"), [["cancel", 2]]);
});

test("data is what it was when stream() was called", async () => {
  const { client, core } = await opened();
  const data = Uint8Array.of(1);
  const stream = client.stream("bytes", data);
  data[0] = 9;
  stream.next();
  assert.deepEqual(core.only("call")[0][2], Uint8Array.of(1));
  await stream.return();
});
