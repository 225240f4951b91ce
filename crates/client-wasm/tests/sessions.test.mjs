import assert from "node:assert/strict";
import { test } from "node:test";

import {
  PLAIN, text, frame, record, bytes, WELCOME, RESUMED, frames, client, connected, call, back, SEQ, ACK, CALL, REPLY,
  NOTIFY, ASK, KEYED,
} from "./play.mjs";

test("after a cut the session goes on: Seq comes first, and what was not confirmed goes again as it was", async () => {
  const it = connected();
  it.core.notify("got", 1, text("1"), false);
  const id = call(it.core);
  const [, sent] = frames(it.socket.sent);
  const socket = back(it, [7, 1, 1], frame(SEQ, 1)); // The first of the two has arrived.
  assert.deepEqual(frames(socket.sent), [{ kind: SEQ, body: [2] }, sent]);
  assert.deepEqual(it.of("onSession").map(([{ resumed }]) => resumed), [false, true]);
  socket.receive(record(frame(REPLY, id, 1, 0x31)));
  assert.deepEqual(it.of("onSettled"), [[id, true, 1, text("1"), undefined]]);
  assert.deepEqual(it.of("onReset"), []);
  it.core.free();
});

test("what the server sends again is heard once", async () => {
  const it = connected();
  const note = (n) => frame(NOTIFY, ...bytes(text("n")), 1, 0x30 + n);
  it.socket.receive(record(note(1), note(2)));
  back(it, RESUMED, frame(SEQ, 2), note(2), note(3));
  assert.deepEqual(it.of("onMessage").map(([, , [digit]]) => digit - 0x30), [1, 2, 3]);
  it.core.free();
});

test("a reset is told once, before the next session, and settles what nobody knows", async () => {
  const it = connected();
  const lost = call(it.core, "lost");
  const keyed = it.core.call("keyed", 1, text("1"), undefined, "k");
  it.core.notify("plain", 1, text("1"), false);
  const receipt = it.core.notifyConfirmed("asked", 1, text("1"));
  assert.deepEqual(frames(it.socket.sent).map(({ kind, flags }) => [kind, flags]), [
    [CALL, undefined], [CALL, KEYED], [NOTIFY, undefined], [NOTIFY, ASK],
  ]);
  it.log.length = 0;
  const socket = back(it, [8, 1, 3]); // restart
  const heard = it.log.filter(([name]) => name !== "onStatus").map(([name, ...values]) => [name, ...values]);
  assert.deepEqual(heard.map(([name]) => name), ["onReset", "onSettled", "onSession"]);
  assert.deepEqual(heard[0].slice(1), ["restart", ["lost", -1, "plain", 0, "asked", receipt]]);
  assert.deepEqual([heard[1][1], heard[1][5].code], [lost, "unknown"]);
  assert.deepEqual(frames(socket.sent).map(({ kind, flags }) => [kind, flags]), [[CALL, KEYED]], "safe to send again");
  socket.receive(record(frame(REPLY, keyed, 1, 0x31)));
  assert.equal(it.of("onSettled").at(-1)[0], keyed);
  it.core.free();
});

test("a confirmed notification is told when it is acknowledged, also by the next connection", async () => {
  const it = connected();
  const [first, second] = [1, 2].map(() => it.core.notifyConfirmed("asked", 1, text("1")));
  it.socket.receive(record(frame(ACK, 1)));
  assert.deepEqual(it.of("onConfirmed"), [[first]]);
  back(it, [7, 1, 2], frame(SEQ, 1));
  assert.deepEqual(it.of("onConfirmed"), [[first], [second]]);
  it.core.free();
});

test("a confirmed notification that turns out to be too large is refused when the server has told its limit", async () => {
  const { core, sockets, of } = client({ options: PLAIN });
  core.start();
  const receipt = core.notifyConfirmed("large", 0, new Uint8Array(1025));
  sockets[0].onopen({});
  sockets[0].receive(record(WELCOME));
  assert.deepEqual(of("onRefused").map(([refused, { code }]) => [refused, code]), [[receipt, "too_large"]]);
  core.free();
});
