// The compiled driver in Node, against a host and sockets of the test's own: `node --test crates/client-wasm/tests/`
// after `cargo xtask wasm`. The wire is the plain one, so that the test can play the server byte by byte.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { afterEach, beforeEach, mock, test } from "node:test";

const npm = new URL("../../../npm/", import.meta.url);
const { Core, initSync } = await import(new URL("generated/core.js", npm));
initSync({ module: new WebAssembly.Module(readFileSync(new URL("generated/core_bg.wasm", npm))) });

const PLAIN = { encryption: "off", serverKeys: [] };
// RFC 7748's Alice, as docs/PROTOCOL.md § Keys as text writes her.
const alice = Buffer.from("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a", "hex");
const sum = createHash("sha256").update("mlpub_").update(alice).digest().subarray(0, 4);
const KEY = `mlpub_${Buffer.concat([alice, sum]).toString("base64url")}`;
const text = (value) => new TextEncoder().encode(value);

// ---- the wire, as far as the test plays it (docs/PROTOCOL.md § Frames) ----

const frame = (kind, ...body) => [kind, 0, body.length, ...body];
const record = (...frames) => Uint8Array.from([0x11, ...frames.flat()]);
const bytes = (value) => [value.length, ...value];
const FIELDS = {
  session: [1, ...bytes(Array(16).fill(0xab))],
  serverTime: [2, 1, 7],
  heartbeat: [3, 1, 25],
  maxMessage: [4, 2, 0x80, 0x08],
  maxCalls: [5, 1, 9],
  version: [6, ...bytes(text("test/1"))],
};
const BYE = 0x04, SEQ = 0x05, ACK = 0x06, PING = 0x07;
const CALL = 0x10, REPLY = 0x11, FAIL = 0x12, CANCEL = 0x13, NOTIFY = 0x14, VOLATILE = 0x15, ITEM = 0x16, CREDIT = 0x17, END = 0x18;
const ASK = 0x01, KEYED = 0x02, STREAM = 0x04;

/** `resumption` is field 7 (resumed, the last number received) or 8 (reset, the reason); neither is a new session. */
const welcome = (resumption = []) => frame(0x01, ...Object.values(FIELDS).flat(), ...resumption,
  9, 8, ...Array(8).fill(0xe0), 10, 1, 120, 11, 16, ...Array(16).fill(0x5e), 15, 1, 50);
const WELCOME = welcome();
/** Nothing of the client's had been received. */
const RESUMED = [7, 1, 0];

/** The frames of what the client sent, without its pings and acknowledgements. */
function frames(sent) {
  const found = [];
  for (const record of sent.filter((record) => record[0] === 0x11)) {
    for (let at = 1; at < record.length; ) {
      const [kind, flags, length] = record.subarray(at);
      assert.ok(length < 128, "the test reads short frames only");
      const body = [...record.subarray(at + 3, at + 3 + length)];
      if (kind !== PING && kind !== ACK) found.push({ kind, body, ...(flags && { flags }) });
      at += 3 + length;
    }
  }
  return found;
}

// ---- the other side of the boundary ----

class FakeSocket {
  sent = [];
  closedWith = undefined;
  bufferedAmount = 0;
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
  }
  send(data) {
    this.sent.push(new Uint8Array(data));
  }
  close(code = 1000) {
    if (code !== 1000 && code < 3000) throw new DOMException("bad code", "InvalidAccessError");
    this.closedWith ??= code;
  }
  receive(data) {
    this.onmessage({ data: data instanceof Uint8Array ? data.buffer : data });
  }
  end(code = 1006) {
    const { onclose } = this;
    onclose?.({ code });
  }
  get isDetached() {
    return !this.onopen && !this.onmessage && !this.onclose;
  }
}

let errors;
beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  errors = mock.method(console, "error", () => {}).mock;
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

/** A client, what its host heard in order, and its sockets. `on` lets a test act within a callback. */
function client({ options = {}, on = {} } = {}) {
  const log = [];
  const sockets = [];
  const heard = (name) => (...values) => {
    log.push([name, ...values]);
    return on[name]?.(...values);
  };
  const host = Object.fromEntries(
    [
      "discover", "authorize", "onAuthenticated", "onWarning", "onStatus", "onSession", "onReset", "onConfirmed", "onRefused", "onRoom", "onSettled", "onItem", "onCall", "onCancelled",
      "onCredit", "onMessage",
    ].map((name) => [name, heard(name)]),
  );
  host.openSocket = (url, protocols) => {
    on.openSocket?.();
    sockets.push(new FakeSocket(url, protocols));
    return sockets.at(-1);
  };
  const core = new Core(
    {
      url: "ws://localhost:2667/moorline",
      encryption: "aes-256-gcm",
      serverKeys: [KEY],
      allowInsecureDiscovery: false,
      sharedKey: "",
      asksForCredentials: false,
      connectTimeoutMs: 10_000,
      callTimeoutMs: 10_000,
      reconnect: true,
      reconnectBaseMs: 200,
      reconnectMaxMs: 20_000,
      clientVersion: "moorline/0.0.0",
      ...options,
    },
    host,
  );
  return { core, log, sockets, of: (name) => log.filter(([heard]) => heard === name).map(([, ...values]) => values) };
}

/** A client in plain mode that is connected. */
function connected(setup = {}) {
  const it = client({ ...setup, options: { ...PLAIN, ...setup.options } });
  it.core.start();
  const socket = it.sockets[0];
  socket.onopen({});
  socket.receive(record(WELCOME));
  return { ...it, socket };
}

/** Callbacks follow a method of `Core` in a microtask. */
const told = () => Promise.resolve();
const call = (core, name = "echo", timeoutMs) => core.call(name, 1, text("1"), timeoutMs);

// ---- connecting ----

test("a pinned client opens one socket and sends HS1 when it is open", async () => {
  const { core, sockets, of } = client();
  core.start();
  assert.deepEqual(of("onStatus"), [], "no callback within a method");
  await told();
  assert.deepEqual(of("onStatus"), [[{ status: "connecting", attempt: 1, retryInMs: undefined, error: undefined }]]);
  const [socket] = sockets;
  assert.equal(socket.url, "ws://localhost:2667/moorline");
  assert.deepEqual(socket.protocols, ["moorline.v1"]);
  assert.equal(socket.binaryType, "arraybuffer");
  assert.equal(socket.sent.length, 0);
  socket.onopen({});
  assert.equal(socket.sent.length, 1);
  assert.deepEqual([...socket.sent[0].subarray(0, 4)], [0x01, 1, 1, 0]); // HS1, version 1, AES-256-GCM, XK
  assert.equal(socket.sent[0].length, 12 + 32 + 16);
  assert.equal(core.stats().bytesSent, 60);
  core.free();
});

test("two clients never send the same HS1", async () => {
  const [one, other] = [client(), client()].map(({ core, sockets }) => {
    core.start();
    sockets[0].onopen({});
    return String(sockets[0].sent[0]);
  });
  assert.notEqual(one, other);
});

test("without a pin the host is asked for the document, and its key is used", async () => {
  const { core, sockets, of } = client({ options: { serverKeys: [] } });
  core.start();
  const [[ticket, url]] = of("discover");
  assert.equal(url, "http://localhost:2667/moorline");
  assert.equal(sockets.length, 0);
  const document = { version: 1, keys: [KEY], suites: ["aes-256-gcm"], encryption: "on" };
  core.discovered(ticket + 1, { kind: "answer", status: 200, document });
  assert.equal(sockets.length, 0, "an answer to another ticket");
  core.discovered(ticket, { kind: "answer", status: 200, document });
  sockets[0].onopen({});
  assert.equal(sockets[0].sent[0][0], 0x01);
  core.free();
});

test("whatever discovery answers gets a name", async () => {
  const error = async (result) => {
    const { core, of } = client({ options: { serverKeys: [] } });
    core.start();
    core.discovered(of("discover")[0][0], result);
    await told();
    const code = of("onStatus").at(-1)[0].error.code;
    core.free();
    return code;
  };
  const answer = (document) => error({ kind: "answer", status: 200, document });
  assert.equal(await error({ kind: "unreachable" }), "server_unreachable");
  assert.equal(await answer({ error: { code: "origin_refused" } }), "origin_refused");
  assert.equal(await answer({ error: { code: "who knows" } }), "not_moorline");
  assert.equal(await answer({ keys: [], suites: [], encryption: "off" }), "encryption_mismatch");
  for (const document of [undefined, null, 1, "text", [], {}, { error: 404 }, { keys: 1, suites: {}, encryption: "on" }]) {
    assert.equal(await answer(document), "not_moorline", JSON.stringify(document));
  }
  for (const result of [undefined, null, 7, "answer", {}]) assert.equal(await error(result), "server_unreachable");
});

test("a key that is only asked for over an insecure way is refused", async () => {
  const { core, of } = client({ options: { serverKeys: [], url: "ws://example.com/moorline" } });
  core.start();
  await told();
  assert.equal(of("onStatus").at(-1)[0].status, "closed");
  assert.equal(of("onStatus").at(-1)[0].error.code, "server_key_required");
});

test("wrong options are thrown as failures with their code", async () => {
  const wrong = (options, code) => assert.throws(() => client({ options }), (failure) => failure.code === code);
  wrong({ url: "ftp://x" }, "invalid_url");
  wrong({ serverKeys: ["mlpub_abc"] }, "invalid_server_key");
  wrong({ serverKeys: [KEY.slice(0, -1) + "A"] }, "invalid_server_key");
  wrong({ encryption: "rot13", serverKeys: [] }, "invalid_option");
  wrong({ encryption: "off" }, "invalid_option");
  wrong({ serverKeys: "text" }, "invalid_option");
  wrong({ connectTimeoutMs: "10s" }, "invalid_option");
  assert.throws(() => new Core(undefined, {}), (failure) => failure.code === "invalid_option");
});

test("without random bytes there is a clear error", async () => {
  const crypto = Object.getOwnPropertyDescriptor(globalThis, "crypto");
  delete globalThis.crypto;
  try {
    assert.throws(() => client(), (failure) => /globalThis\.crypto/.test(failure.message));
  } finally {
    Object.defineProperty(globalThis, "crypto", crypto);
  }
});

test("a socket that cannot be made is a failed attempt", async () => {
  // Chance may draw a wait so short that the next try has begun: here it draws the middle, and no time passes.
  mock.method(globalThis.crypto, "getRandomValues", (array) => array.fill(7));
  mock.method(performance, "now", () => 0);
  const { core, of } = client({ on: { openSocket: () => { throw new Error("blocked"); } } });
  core.start();
  const [[ticket]] = of("discover"); // The SDK asks why.
  core.discovered(ticket, { kind: "unreachable" });
  await told();
  const { status, attempt, retryInMs, error } = of("onStatus").at(-1)[0];
  assert.deepEqual([status, attempt, error.code], ["connecting", 2, "server_unreachable"]);
  assert.ok(retryInMs > 0 && retryInMs <= 200, `${retryInMs} ms`);
  assert.equal(errors.callCount(), 1);
  core.free();
});

test("the session is told before the state", async () => {
  const { core, log, socket } = connected();
  assert.deepEqual(log.map(([name]) => name), ["onStatus", "onSession", "onStatus"]);
  assert.deepEqual(log[1][1], {
    id: "ab".repeat(16),
    encryption: { suite: "off", trust: "none", serverKey: undefined },
    serverVersion: "test/1",
    limits: { maxMessage: 1024, maxCallsInFlight: 9, messagesPerSecond: 50, bytesPerSecond: undefined },
    heartbeatMs: 25,
    serverTimeMs: 7,
    url: "ws://localhost:2667/moorline",
    resumed: false,
    admission: { identity: undefined, encoding: undefined, data: undefined, expiresInMs: undefined },
  });
  assert.deepEqual(log[2][1], { status: "connected", attempt: 1, retryInMs: undefined, error: undefined });
  assert.deepEqual(socket.protocols, ["moorline.v1.plain"]);
  core.free();
});

test("a lost connection waits, and retryNow tries at once", async () => {
  const { core, sockets, socket, of } = connected();
  socket.end();
  const { status, error } = of("onStatus").at(-1)[0];
  assert.deepEqual([status, error.code], ["connecting", "connection_lost"]);
  assert.equal(error.retryable, undefined, "left to the registry of the shell");
  assert.ok(socket.isDetached);
  assert.equal(sockets.length, 1);
  core.retryNow();
  assert.equal(sockets.length, 2);
  core.free();
});

// ---- messages ----

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

// ---- sessions ----

/** The client comes back after a cut and is told this. */
function back({ core, sockets }, resumption, ...more) {
  sockets.at(-1).end();
  core.retryNow();
  const socket = sockets.at(-1);
  socket.onopen({});
  socket.receive(record(welcome(resumption), ...more));
  return socket;
}

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

// ---- time and room ----

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

// ---- the drain contract ----

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

// ---- the end ----

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

// ---- the package `ws` ----

const require = createRequire(new URL("package.json", npm));
let ws;
try {
  ws = require("ws");
} catch {
  // npm's packages are not installed; `cargo xtask npm` does it.
}

test("the package ws does as a socket, also when it is closed while it connects", { skip: !ws }, async () => {
  mock.timers.reset();
  const server = new ws.WebSocketServer({ port: 0, handleProtocols: () => "moorline.v1.plain" });
  server.on("connection", (peer) => peer.on("message", (data) => {
    if (data[0] === 0x04) peer.send(record(WELCOME));
    for (const { kind, body } of frames([new Uint8Array(data)])) {
      if (kind === CALL) peer.send(record(frame(REPLY, body[0], 1, 0x31)));
    }
  }));
  const { port } = server.address();
  const settled = await new Promise((resolve) => {
    const host = {
      openSocket: (url, protocols) => new ws.WebSocket(url, protocols),
      onStatus: ({ status }) => { if (status === "connected") call(core); },
      onSession() {},
      onSettled: (...values) => resolve(values),
    };
    const options = { ...PLAIN, url: `ws://127.0.0.1:${port}/`, allowInsecureDiscovery: false, sharedKey: "", asksForCredentials: false, connectTimeoutMs: 5_000,
      callTimeoutMs: 5_000, reconnect: false, reconnectBaseMs: 1, reconnectMaxMs: 1, clientVersion: "test" };
    const core = new Core(options, host);
    core.start();
    const hasty = new Core(options, { ...host, onStatus() {} });
    hasty.start();
    hasty.close();
  });
  assert.deepEqual(settled.slice(0, 4), [1, true, 1, text("1")]);
  for (const peer of server.clients) peer.terminate();
  await new Promise((resolve) => server.close(resolve));
});
