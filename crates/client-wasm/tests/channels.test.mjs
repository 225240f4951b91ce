import assert from "node:assert/strict";
import { test } from "node:test";

import {
  text, frame, record, bytes, frames, connected, back, RESUMED, REPLY, OPEN, OPENED, UPDATE, MEMBERS, REQUEST, CLOSE, CLOSED,
  SNAPSHOT, DIRECT, VOLATILE_APPEND, VOLATILE_UPDATE,
} from "./play.mjs";

const TOPIC = 1, STORE = 4;
const QUIET = 0x08, MEMBERS_TOO = 0x10, WHOLE = 0x20;
const EPOCH = [1, 2, 3, 4, 5, 6, 7, 8];
const TAG = [0, 0, 0, 0, 0, 0, 0, 0xfb];
const ANN = [0xa0, 0, 0, 0, 0, 0, 0, 1], BOB = [0xb0, 0, 0, 0, 0, 0, 0, 1];
const position = (offset) => Uint8Array.from([...EPOCH, offset, ...TAG]);
const flagged = (flags, [kind, , ...rest]) => [kind, flags, ...rest];
/** Bob says `x` in JSON. */
const said = (x) => [...BOB, ...bytes(text("bob")), 1, ...text(`"${x}"`)];
const opened = (handle, start, from, head = from) => frame(OPENED, handle, start, ...EPOCH, from, head, 1, 8, ...TAG);
const update = (handle, offset, x) => frame(UPDATE, handle, offset, ...TAG, 1, 7, ...said(x));
const hex = (member) => Buffer.from(member).toString("hex");
const topic = (core, ...more) => core.follow(TOPIC, "room", 0, false, false, ...more);

test("a channel is opened as it was asked for, and told of by its number", async () => {
  const { core, socket, of } = connected();
  const id = core.follow(TOPIC, "room", 5, true, true, position(3), 1, text('"here"'));
  assert.deepEqual(frames(socket.sent), [{
    kind: OPEN,
    flags: QUIET | MEMBERS_TOO,
    body: [1, TOPIC, ...bytes(text("room")), 1, 17, ...position(3), 2, 1, 5, 3, 7, 1, ...text('"here"')],
  }]);
  socket.receive(record(opened(1, 1, 3, 4), update(1, 4, "old"), update(1, 5, "new")));
  assert.deepEqual(of("onChannelOpened"), [[id, "recovered", position(3), 0]]);
  assert.deepEqual(of("onCaughtUp"), [[id]], "with the last one that was there");
  const message = (offset, before, x) => [id, position(offset), 7, before, hex(BOB), "bob", 1, text(`"${x}"`)];
  assert.deepEqual(of("onUpdate"), [message(4, true, "old"), message(5, false, "new")]);
  core.unfollow(id);
  assert.deepEqual(frames(socket.sent).at(-1), { kind: CLOSE, body: [1] });
  socket.receive(record(update(1, 6, "late")));
  assert.equal(of("onUpdate").length, 2);
  core.free();
});

test("after a cut it is opened from where it was, and a gap has a name", async () => {
  const it = connected();
  const id = topic(it.core);
  it.socket.receive(record(frame(OPENED, 1, 0, ...EPOCH, 0, 9)));
  assert.deepEqual(it.of("onChannelOpened"), [[id, "new", undefined, 9]]);
  it.socket.receive(record(update(1, 1, "one")));
  const socket = back(it, RESUMED);
  const open = frames(socket.sent).find(({ kind }) => kind === OPEN);
  assert.deepEqual(open.body, [1, TOPIC, ...bytes(text("room")), 1, 17, ...position(1)]);
  for (const start of [2, 3, 4]) socket.receive(record(opened(1, start, 5)));
  assert.deepEqual(it.of("onChannelOpened").slice(1).map(([, start]) => start), ["recreated", "diverged", "trimmed"]);
  socket.receive(record(frame(CLOSED, 1, 0xd1, 0x0f, ...bytes(text("gone"))))); // 2001
  const [[closed, failure]] = it.of("onChannelClosed");
  assert.deepEqual([closed, failure.code, failure.message], [id, "no_such_channel", "gone"]);
  it.core.free();
});

// It is followed anew, as after a pause: what this client itself had written before it began must still come.
test("a quiet channel that is followed anew wants its own up to where its past went", async () => {
  const { core, socket } = connected();
  core.follow(TOPIC, "room", 0, true, false, position(3), undefined, undefined, 9);
  core.follow(TOPIC, "hall", 0, true, false, position(9), undefined, undefined, 9);
  const rest = frames(socket.sent).map(({ body }) => body.slice(2 + 1 + 4 + 2 + 17));
  assert.deepEqual(rest, [[4, 1, 9], []]);
  core.free();
});

test("a snapshot, members, what is volatile and what is for this client alone are told", async () => {
  const { core, socket, of } = connected();
  const id = core.follow(STORE, "notes", 0, true, true);
  socket.receive(record(
    frame(OPENED, 1, 0, ...EPOCH, 4, 4, 1, 8, ...TAG, 2, 0),
    frame(SNAPSHOT, 1, 7, 9, 9),
    flagged(WHOLE, frame(MEMBERS, 1, ...ANN, 1, ...bytes(text("ann")), 5, 2, 0, 42, ...BOB, 2, 8, ...bytes(text("bob")), 6, 1, 0)),
    frame(MEMBERS, 1, ...BOB, 0),
    frame(VOLATILE_UPDATE, 1, 7, ...said("psst")),
    frame(DIRECT, TOPIC, ...bytes(text("room")), 7, ...said("you")),
  ));
  assert.deepEqual(of("onChannelOpened"), [[id, "new", undefined, 4]], "before the snapshot has come there is no place");
  assert.deepEqual(of("onSnapshot"), [[id, position(4), 7, Uint8Array.of(9, 9)]]);
  assert.deepEqual(of("onCaughtUp"), [[id]]);
  assert.deepEqual(of("onMembers"), [
    [id, true, [hex(ANN), 1, "ann", 5, 0, 0, Uint8Array.of(42), hex(BOB), 2, "bob", 6, 8, 0, new Uint8Array()]],
    [id, false, [hex(BOB), 0, "", 0, 0, 0, undefined]],
  ]);
  assert.deepEqual(of("onVolatile"), [[id, 7, hex(BOB), "bob", 1, text('"psst"')]]);
  assert.deepEqual(of("onDirect"), [[TOPIC, "room", 7, hex(BOB), "bob", 1, text('"you"')]]);
  core.free();
});

test("requests are sent as their numbers say, and settle as calls", async () => {
  const { core, socket, of } = connected();
  const ask = (what, target, count = 0, key) => core.request(TOPIC, what, "room", target, count, 0, Uint8Array.of(9), 1_000, key);
  const name = [TOPIC, ...bytes(text("room"))];
  const hash = Uint8Array.from({ length: 32 }, (_, at) => at);
  const ids = [
    ask(1), ask(2, Uint8Array.from(ANN)), ask(3), ask(4, undefined, 50), ask(4, position(3), 2), ask(5, position(3)), ask(6, hash), ask(7, hash),
  ];
  assert.deepEqual(frames(socket.sent).map(({ kind, body }) => [kind, ...body]), [
    [REQUEST, ids[0], 1, ...name, 0, 9],
    [REQUEST, ids[1], 2, ...name, ...ANN, 0, 9],
    [REQUEST, ids[2], 3, ...name, 0, 9],
    [REQUEST, ids[3], 4, ...name, 50, 0, 0, 9],
    [REQUEST, ids[4], 4, ...name, 2, 1, ...position(3), 0, 9],
    [REQUEST, ids[5], 5, ...name, ...position(3), 0, 9],
    [REQUEST, ids[6], 6, ...name, ...hash, 0, 9],
    [REQUEST, ids[7], 7, ...name, ...hash, 0, 9],
  ]);
  socket.receive(record(frame(REPLY, ids[0], 0, ...position(4))));
  assert.deepEqual(of("onSettled"), [[ids[0], true, 0, position(4), undefined]]);
  core.volatile(TOPIC, "room", 0, Uint8Array.of(7));
  assert.deepEqual(frames(socket.sent).at(-1), { kind: VOLATILE_APPEND, body: [...name, 0, 7] });
  core.free();
});

test("what is shown instead is shown again on the next connection", async () => {
  const it = connected();
  topic(it.core, undefined, 0, Uint8Array.of(1));
  it.core.request(TOPIC, 3, "room", undefined, 0, 0, Uint8Array.of(2));
  const socket = back(it, RESUMED);
  const open = frames(socket.sent).find(({ kind }) => kind === OPEN);
  assert.deepEqual(open.body, [1, TOPIC, ...bytes(text("room")), 3, 2, 0, 2]);
  it.core.free();
});

test("what is none is thrown", async () => {
  const { core, socket } = connected();
  const refused = (act, code) => assert.throws(act, (failure) => failure.code === code);
  refused(() => topic(core, Uint8Array.of(1, 2)), "invalid_option");
  refused(() => core.follow(9, "room", 0, false, false), "invalid_option");
  refused(() => core.follow(TOPIC, "a\nb", 0, false, false), "invalid_name");
  refused(() => topic(core, undefined, 0, new Uint8Array(5_000)), "too_large");
  for (const [what, target] of [[0], [8], [1, Uint8Array.of(1)], [2], [2, Uint8Array.of(1)], [4, Uint8Array.of(1)], [5], [6, Uint8Array.of(1)]]) {
    refused(() => core.request(TOPIC, what, "room", target, 0, 0, new Uint8Array()), "invalid_option");
  }
  refused(() => core.volatile(TOPIC, "", 0, new Uint8Array()), "invalid_name");
  refused(() => core.volatile(TOPIC, "room", 0, new Uint8Array(100_000)), "too_large");
  refused(() => core.page(Uint8Array.of(7)), "unreadable");
  assert.deepEqual(frames(socket.sent), []);
  core.free();
});

test("a page of history is read, and what nobody can read in it is passed over", async () => {
  const { core } = connected();
  const entry = (offset, content) => [offset, ...TAG, 7, ...bytes(content)];
  const page = core.page(Uint8Array.from([1, ...EPOCH, ...entry(3, said("a")), ...entry(4, [1, 2]), ...entry(5, said("b"))]));
  assert.deepEqual(page, [true, position(3), 7, hex(BOB), "bob", 1, text('"a"'), position(5), 7, hex(BOB), "bob", 1, text('"b"')]);
  assert.deepEqual(core.page(Uint8Array.from([0, ...EPOCH])), [false]);
  core.free();
});
