import assert from "node:assert/strict";
import { mock, test } from "node:test";

import {
  PLAIN, text, frame, record, bytes, WELCOME, frames, errors, client, connected, told, call, BYE, NOTIFY,
} from "./play.mjs";

test("close says good-bye, settles what is open, and is final", async () => {
  const { core, socket, log } = connected();
  const id = call(core);
  core.close();
  core.close();
  await told();
  assert.deepEqual(frames(socket.sent).at(-1), { kind: BYE, body: [] });
  assert.equal(socket.closedWith, 1000);
  assert.ok(socket.isDetached);
  const [settled, status] = log.slice(-2);
  assert.deepEqual([settled[0], settled[1], settled[5].code], ["onSettled", id, "unknown"]);
  assert.deepEqual([status[0], status[1].status, status[1].error], ["onStatus", "closed", undefined]);
  core.free();
});

test("close before start opens no socket, and a call that never left is told so", async () => {
  const { core, sockets, of } = client();
  const id = call(core);
  core.close();
  core.start();
  await told();
  assert.equal(sockets.length, 0);
  assert.deepEqual([of("onSettled")[0][0], of("onSettled")[0][4].code], [id, "closed"]);
  assert.deepEqual(of("onStatus").map(([{ status }]) => status), ["closed"]);
});

test("free in flight says good-bye and is silent from then on", async () => {
  const { core, socket, log } = connected();
  call(core);
  const { onmessage, onclose, onerror } = socket;
  log.length = 0;
  core.free();
  assert.deepEqual(frames(socket.sent).at(-1), { kind: BYE, body: [] });
  assert.equal(socket.closedWith, 1000);
  assert.ok(socket.isDetached);
  onerror({});
  socket.onerror({}); // `ws` reports an error after close(): somebody must listen.
  for (const late of [() => onmessage({ data: record(WELCOME).buffer }), () => onclose({ code: 1006 })]) {
    try { late(); } catch { /* wasm-bindgen's word that the closure is gone */ }
  }
  mock.timers.runAll();
  await told();
  assert.deepEqual(log, []);
});

test("free at every stage is safe", async () => {
  const stages = [
    () => {},
    ({ core }) => core.start(),
    ({ core, sockets }) => { core.start(); sockets[0].onopen({}); },
    ({ core, sockets }) => { core.start(); sockets[0].end(); }, // asking why
    ({ core, sockets, of }) => { core.start(); sockets[0].end(); core.discovered(of("discover")[0][0], {}); }, // waiting
  ];
  for (const stage of stages) {
    const it = client();
    stage(it);
    const heard = it.log.length;
    it.core.free();
    mock.timers.runAll();
    await told();
    assert.equal(it.log.length, heard);
    assert.ok(it.sockets.every((socket) => socket.isDetached));
  }
});

test("free within a callback is safe", async () => {
  let it;
  const on = { onMessage: () => it.core.free() };
  it = client({ options: PLAIN, on });
  it.core.start();
  const [socket] = it.sockets;
  socket.onopen({});
  socket.receive(record(WELCOME));
  const message = frame(NOTIFY, ...bytes(text("n")), 1, 0x31);
  socket.receive(record(message, message, message));
  assert.equal(it.of("onMessage").length, 1);
  assert.ok(socket.isDetached);
  assert.equal(it.of("onStatus").at(-1)[0].status, "connected");
});

test("free within a callback that follows a method is safe, too", async () => {
  let it;
  const on = { onStatus: ({ attempt }) => { if (attempt === 2) it.core.free(); } };
  it = client({ on });
  it.core.start();
  it.sockets[0].end();
  it.core.discovered(it.of("discover")[0][0], { kind: "unreachable" });
  await told();
  mock.timers.runAll();
  assert.equal(it.of("onStatus").at(-1)[0].attempt, 2);
  assert.equal(it.sockets.length, 1);
  assert.equal(errors.callCount(), 0);
});

// Chromium wrote "WebSocket is already in CLOSING or CLOSED state" on the console of every page whose server went while it
// spoke.
test("regression: nothing is handed to a socket that is closing", async () => {
  const { core, socket } = connected();
  const sent = (readyState) => {
    const before = socket.sent.length;
    socket.readyState = readyState;
    core.notify("n", 0, Uint8Array.of(1), false);
    return socket.sent.length - before;
  };
  assert.deepEqual([1, 2, 3].map(sent), [1, 0, 0]);
  core.free();
});

test("late events of an old socket are passed over", async () => {
  const { core, sockets, socket, of } = connected();
  const { onopen, onmessage, onclose } = socket;
  socket.end();
  core.retryNow();
  const heard = of("onStatus").length;
  for (const late of [() => onopen({}), () => onmessage({ data: record(WELCOME).buffer }), () => onclose({ code: 1006 })]) {
    try { late(); } catch { /* wasm-bindgen's word that the closure is gone */ }
  }
  assert.equal(of("onStatus").length, heard);
  assert.equal(sockets[1].sent.length, 0);
  core.free();
});
