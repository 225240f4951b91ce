import assert from "node:assert/strict";
import { test } from "node:test";

import {
  PLAIN, text, frame, record, bytes, WELCOME, frames, client, connected, call, ACK, PING, CALL, REPLY, FAIL, CANCEL,
  NOTIFY, VOLATILE, ITEM, CREDIT, END, STREAM,
} from "./play.mjs";

test("calls settle with their reply or failure, and with neither they wait", async () => {
  const { core, socket, of } = connected();
  const [ok, failed, own] = [1, 2, 3, 4].map(() => call(core));
  assert.deepEqual(frames(socket.sent).map(({ kind }) => kind), [CALL, CALL, CALL, CALL]);
  socket.receive(record(
    frame(REPLY, ok, 1, ...text("42")),
    frame(FAIL, failed, 0xcd, 0x08, 0, ...bytes(text("no such"))), // 1101
    frame(FAIL, own, 0xcc, 0x08, ...bytes(text("sold_out")), 0, 0, 9, 8), // 1100, with data
  ));
  socket.end();
  const settled = of("onSettled");
  assert.deepEqual(settled[0], [ok, true, 1, text("42"), undefined]);
  assert.deepEqual(settled[1].slice(0, 2), [failed, false]);
  assert.deepEqual([settled[1][4].code, settled[1][4].message], ["not_found", "no such"]);
  assert.deepEqual([settled[2][4].code, settled[2][4].encoding, settled[2][4].data], ["sold_out", 0, Uint8Array.of(9, 8)]);
  assert.equal(settled.length, 3, "a lost connection settles nothing");
  core.free();
});

test("what cannot be sent is thrown and never settles", async () => {
  const { core, of } = connected();
  const refused = (act, code) => assert.throws(act, (failure) => failure.code === code && failure.message === "");
  refused(() => core.call("", 1, text("1")), "invalid_name");
  refused(() => core.call("a\nb", 1, text("1")), "invalid_name");
  refused(() => core.call("big", 0, new Uint8Array(1025)), "too_large");
  refused(() => core.notify("huge", 0, new Uint8Array(50_000_000), false), "too_large");
  assert.throws(() => core.call("x", 7, text("1")), (failure) => failure.code === "unreadable");
  core.close();
  refused(() => call(core), "closed");
  assert.deepEqual(of("onSettled"), []);
});

test("a cancelled call is never settled, not even when its reply is in the queue", async () => {
  const { core, socket, of } = connected({ on: { onMessage: () => core.cancel(2) } });
  const [first, second] = [call(core), call(core)];
  core.cancel(first);
  socket.receive(record(frame(REPLY, first, 1, 0x31), frame(NOTIFY, ...bytes(text("n")), 1, 0x31), frame(REPLY, second, 1, 0x31)));
  assert.equal(of("onMessage").length, 1);
  assert.deepEqual(of("onSettled"), []);
  assert.ok(frames(socket.sent).some(({ kind }) => kind === CANCEL));
  core.free();
});

test("the server's calls and messages reach the host, and its answers the server", async () => {
  const { core, socket, of } = connected();
  const name = bytes(text("move"));
  socket.receive(record(
    frame(CALL, 1, ...name, 1, ...text("{}")), frame(CALL, 2, ...name, 0), frame(CALL, 3, ...name, 0),
    frame(CANCEL, 3), frame(NOTIFY, ...name, 0, 7), frame(VOLATILE, ...name, 1, 0x31),
  ));
  assert.deepEqual(of("onCall"), [
    [1, "move", 1, text("{}"), false], [2, "move", 0, new Uint8Array(), false], [3, "move", 0, new Uint8Array(), false],
  ]);
  assert.deepEqual(of("onCancelled"), [[3]]);
  assert.deepEqual(of("onMessage"), [["move", 0, Uint8Array.of(7), false], ["move", 1, text("1"), true]]);
  core.reply(1, 0, Uint8Array.of(5));
  core.fail(2, "no_move", "over", 1, text("[]"));
  core.reply(3, 0, Uint8Array.of(6));
  const [reply, fail, ...rest] = frames(socket.sent);
  assert.deepEqual(reply, { kind: REPLY, body: [1, 0, 5] });
  assert.deepEqual(fail, { kind: FAIL, body: [2, 0xcc, 0x08, ...bytes(text("no_move")), ...bytes(text("over")), 1, ...text("[]")] });
  assert.deepEqual(rest, []);
  core.free();
});

test("a text, an empty and an oversized message end the connection and nothing else", async () => {
  for (const message of ["text", new Uint8Array(), new Uint8Array(65_537), 7, null]) {
    const { core, socket, of } = connected();
    socket.receive(message);
    assert.equal(socket.closedWith, 4001);
    assert.equal(of("onStatus").at(-1)[0].error.code, "protocol_violation");
    core.free();
  }
});

test("volatile messages are dropped while there is no connection", async () => {
  const { core, sockets } = client({ options: PLAIN });
  core.start();
  core.notify("cursor", 1, text("1"), true);
  core.notify("kept", 1, text("1"), false);
  sockets[0].onopen({});
  sockets[0].receive(record(WELCOME));
  assert.deepEqual(frames(sockets[0].sent).map(({ kind }) => kind), [NOTIFY]);
  core.free();
});

test("a stream asks for items, takes more and ends", async () => {
  const { core, socket, of } = connected();
  const id = core.call("ticks", 1, text("1"), undefined, undefined, 2);
  assert.deepEqual(frames(socket.sent), [{ kind: CALL, flags: STREAM, body: [id, ...bytes(text("ticks")), 2, 1, ...text("1")] }]);
  socket.receive(record(frame(ITEM, id, 1, 0x31), frame(ITEM, id, 0, 7)));
  assert.deepEqual(of("onItem"), [[id, 1, text("1")], [id, 0, Uint8Array.of(7)]]);
  core.grant(id, 3);
  assert.deepEqual(frames(socket.sent).at(-1), { kind: CREDIT, body: [id, 3] });
  socket.receive(record(frame(END, id)));
  assert.deepEqual(of("onSettled"), [[id, true, 0, undefined, undefined]]);
  core.free();
});

test("a cancelled stream gives no item any more, not even one in the queue", async () => {
  let core;
  const it = connected({ on: { onItem: (id) => core.cancel(id) } });
  core = it.core;
  const id = core.call("ticks", 1, text("1"), undefined, undefined, 9);
  it.socket.receive(record(frame(ITEM, id, 1, 0x31), frame(ITEM, id, 1, 0x32), frame(END, id)));
  assert.equal(it.of("onItem").length, 1);
  assert.deepEqual(it.of("onSettled"), []);
  core.free();
});

test("a stream that the server asks for sends as much as is taken, and its end", async () => {
  const { core, socket, of } = connected();
  socket.receive(record([CALL, STREAM, 5, 1, ...bytes(text("c")), 1, 0])); // room for one item
  assert.deepEqual(of("onCall"), [[1, "c", 0, new Uint8Array(), true]]);
  core.item(1, 0, Uint8Array.of(5));
  assert.throws(() => core.item(1, 0, Uint8Array.of(6)), (failure) => failure.code === "backpressure");
  socket.receive(record(frame(CREDIT, 1, 1)));
  assert.deepEqual(of("onCredit"), [[1]]);
  core.item(1, 0, Uint8Array.of(6));
  core.end(1);
  assert.deepEqual(frames(socket.sent).map(({ kind, body }) => [kind, body]), [[ITEM, [1, 0, 5]], [ITEM, [1, 0, 6]], [END, [1]]]);
  core.free();
});

test("a refusal for want of room is followed by word that there may be some", async () => {
  const { core, socket, of } = connected();
  const fill = () => { for (;;) core.notify("n", 0, new Uint8Array(), false); };
  assert.throws(fill, (failure) => failure.code === "backpressure");
  assert.deepEqual(of("onRoom"), []);
  socket.receive(record(frame(ACK, 0x80, 0x04))); // 512 of them
  assert.equal(of("onRoom").length, 1);
  core.notify("n", 0, new Uint8Array(), false);
  socket.receive(record(frame(PING, 1)));
  assert.equal(of("onRoom").length, 1, "who was not refused is not told");
  core.free();
});

test("without a connection messages wait up to the same room", async () => {
  const { core, sockets, of } = client({ options: PLAIN });
  core.start();
  let sent = 0;
  assert.throws(() => { for (;;) { core.notify("n", 0, new Uint8Array(), false); sent++; } }, (failure) => failure.code === "backpressure");
  assert.equal(sent, 2_048);
  sockets[0].onopen({});
  sockets[0].receive(record(WELCOME));
  assert.equal(frames(sockets[0].sent).length, 2_048, "and go out in order");
  assert.equal(of("onRoom").length, 0, "none of it is confirmed");
  sockets[0].receive(record(frame(ACK, 0x80, 0x10)));
  assert.equal(of("onRoom").length, 1);
  core.free();
});

test("what the server says when it goes has its reference and its wish", async () => {
  const { core, socket, of } = connected();
  socket.receive(record(frame(0x03, 0xaa, 0x1f, ...Array(8).fill(0xcc), 0xac, 0x02, ...bytes(text("upgrade"))))); // 4010
  const { status, error } = of("onStatus").at(-1)[0];
  assert.deepEqual([status, error.code, error.ref, error.retryAfterMs, error.message],
    ["connecting", "going_away", "cc".repeat(8), 300, "upgrade"]);
  core.free();
});
