import assert from "node:assert/strict";
import { test } from "node:test";

import {
  PLAIN, text, frame, record, bytes, welcome, WELCOME, RESUMED, frames, errors, client, connected, told, call, BYE,
  SEQ, CALL, REPLY, CANCEL, NOTIFY,
} from "./play.mjs";

test("calls from within a callback are sent in order, and close() within one lets the queue run out", async () => {
  const order = [];
  let core;
  const on = {
    onStatus: ({ status }) => {
      order.push(status);
      if (status === "connected") order.push(`call ${call(core)}`, `call ${call(core)}`);
    },
    onMessage: (name) => {
      order.push(name);
      if (name === "a") core.close();
    },
    onSettled: (id, ok, _encoding, _body, failure) => order.push(`settled ${id} ${ok || failure.code}`),
  };
  const it = client({ options: PLAIN, on });
  core = it.core;
  core.start();
  const [socket] = it.sockets;
  socket.onopen({});
  socket.receive(record(WELCOME));
  assert.deepEqual(frames(socket.sent).map(({ kind }) => kind), [CALL, CALL]);
  const message = (name) => frame(NOTIFY, ...bytes(text(name)), 1, 0x31);
  socket.receive(record(message("a"), frame(REPLY, 1, 1, 0x31), message("b")));
  assert.deepEqual(order, [
    "connecting", "connected", "call 1", "call 2",
    "a", "settled 1 true", "b", "settled 2 unknown", "closed",
  ]);
  assert.deepEqual(frames(socket.sent).at(-1), { kind: BYE, body: [] });
  assert.ok(socket.isDetached);
});

test("a host that throws everywhere stops nothing", async () => {
  const thrower = () => { throw new Error("host"); };
  const names = ["onStatus", "onSession", "onSettled", "onCall", "onCancelled", "onMessage"];
  const { core, socket, log } = connected({ on: Object.fromEntries(names.map((name) => [name, thrower])) });
  const id = call(core);
  socket.receive(record(frame(NOTIFY, ...bytes(text("n")), 1, 0x31), frame(CALL, 1, ...bytes(text("c")), 0), frame(CANCEL, 1)));
  socket.receive(record(frame(REPLY, id, 1, 0x31)));
  core.close();
  await told();
  const heard = ["onStatus", "onSession", "onStatus", "onMessage", "onCall", "onCancelled", "onSettled", "onStatus"];
  assert.deepEqual(log.map(([name]) => name), heard);
  assert.equal(errors.callCount(), heard.length);
  assert.match(String(errors.calls[0].arguments[0]), /host/);
});

test("a host whose discover throws is one that reaches nobody", async () => {
  const { core, of } = client({ options: { serverKeys: [] }, on: { discover: () => { throw new Error("no fetch"); } } });
  core.start();
  await told();
  assert.equal(of("onStatus").at(-1)[0].error.code, "server_unreachable");
  core.free();
});

test("a socket whose send throws is closed, and the call goes out over the next one", async () => {
  const { core, sockets, socket, of } = connected();
  socket.send = () => { throw new DOMException("not now", "InvalidStateError"); };
  const id = call(core);
  assert.deepEqual(of("onSettled"), []);
  assert.equal(socket.closedWith, 1000);
  socket.end();
  core.retryNow();
  sockets[1].onopen({});
  sockets[1].receive(record(welcome(RESUMED), frame(SEQ, 1), frame(REPLY, id, 1, 0x31)));
  assert.deepEqual(of("onSettled").map(([settled, ok]) => [settled, ok]), [[id, true]]);
  core.free();
});
