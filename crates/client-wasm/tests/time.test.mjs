import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { text, frame, record, connected, call, PING } from "./play.mjs";

test("a call that nobody answers times out, by the one timer", async () => {
  const { core, of } = connected();
  let now = performance.now();
  mock.method(performance, "now", () => now);
  const id = call(core, "slow", 500);
  now += 500;
  mock.timers.tick(500);
  const [[settled, ok, , , failure]] = of("onSettled");
  assert.deepEqual([settled, ok, failure.code], [id, false, "timeout"]);
  core.free();
});

test("a page that slept for an hour asks once, and goes on with the connection that answers", async () => {
  const { core, sockets, socket, of } = connected();
  let now = performance.now();
  mock.method(performance, "now", () => now);
  const pings = () => socket.sent.filter(([kind, first]) => kind === 0x11 && first === PING).length;
  const before = pings();
  now += 3_600_000;
  mock.timers.tick(30_000);
  assert.equal(pings(), before + 1);
  socket.receive(record(frame(0x08, before))); // Pong
  now += 10_000;
  mock.timers.tick(10_000);
  assert.deepEqual([pings(), sockets.length, of("onStatus").at(-1)[0].status], [before + 1, 1, "connected"]);
  core.free();
});

test("a wait beyond what setTimeout can count does not fire at once", async () => {
  const { core, of } = connected();
  const set = mock.method(globalThis, "setTimeout");
  call(core, "patient", Infinity);
  call(core, "patient", 1e12);
  mock.timers.tick(1);
  assert.ok(set.mock.calls.every(({ arguments: [, ms] }) => ms > 0 && ms <= 2 ** 31 - 1));
  assert.deepEqual(of("onSettled"), []);
  core.free();
});

test("a full socket gets nothing more until it has room", async () => {
  const { core, socket, of } = connected();
  socket.bufferedAmount = 300_000;
  core.notify("first", 1, text("1"), false);
  const sent = socket.sent.length;
  core.notify("second", 1, text("1"), false);
  assert.equal(socket.sent.length, sent);
  assert.ok(core.stats().buffered > 300_000);
  socket.bufferedAmount = 100_000;
  mock.timers.tick(50);
  assert.equal(socket.sent.length, sent, "not below the low mark yet");
  socket.bufferedAmount = 1_000;
  mock.timers.tick(50);
  assert.equal(socket.sent.length, sent + 1);
  assert.deepEqual(of("onStatus").at(-1)[0].status, "connected");
  core.free();
});
