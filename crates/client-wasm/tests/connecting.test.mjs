import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Core, KEY, errors, client, connected, told } from "./play.mjs";

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
  // What a proxy says for a server that it does not reach.
  for (const status of [502, 503, 504]) assert.equal(await error({ kind: "answer", status }), "server_unreachable");
  for (const status of [0, 200, 404, 500]) assert.equal(await error({ kind: "answer", status }), "not_moorline");
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
    // SHA-256("moorline member" and sixteen bytes ab), the first eight bytes, computed apart.
    member: "1c679f2584a66810",
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
