/**
 * What the tests of the compiled driver play: the server's side of the wire, byte by byte, and the shell's side of the
 * boundary with sockets of its own. The wire is the plain one. Time is the test's.
 *
 * `cargo xtask wasm` comes first. A file by itself: `node --test crates/client-wasm/tests/messages.test.mjs`.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, mock } from "node:test";

export const npm = new URL("../../../npm/", import.meta.url);
export const { Core, initSync } = await import(new URL("generated/core.js", npm));
initSync({ module: new WebAssembly.Module(readFileSync(new URL("generated/core_bg.wasm", npm))) });

export const PLAIN = { encryption: "off", serverKeys: [] };
// RFC 7748's Alice, as docs/PROTOCOL.md § Keys as text writes her.
const alice = Buffer.from("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a", "hex");
const sum = createHash("sha256").update("mlpub_").update(alice).digest().subarray(0, 4);
export const KEY = `mlpub_${Buffer.concat([alice, sum]).toString("base64url")}`;
export const text = (value) => new TextEncoder().encode(value);

// ---- the wire, as far as the test plays it (docs/PROTOCOL.md § Frames) ----

export const frame = (kind, ...body) => [kind, 0, body.length, ...body];
export const record = (...frames) => Uint8Array.from([0x11, ...frames.flat()]);
export const bytes = (value) => [value.length, ...value];
const FIELDS = {
  session: [1, ...bytes(Array(16).fill(0xab))],
  serverTime: [2, 1, 7],
  heartbeat: [3, 1, 25],
  maxMessage: [4, 2, 0x80, 0x08],
  maxCalls: [5, 1, 9],
  version: [6, ...bytes(text("test/1"))],
};
export const BYE = 0x04, SEQ = 0x05, ACK = 0x06, PING = 0x07;
export const CALL = 0x10, REPLY = 0x11, FAIL = 0x12, CANCEL = 0x13, NOTIFY = 0x14, VOLATILE = 0x15, ITEM = 0x16, CREDIT = 0x17, END = 0x18;
export const OPEN = 0x20, OPENED = 0x21, UPDATE = 0x22, MEMBERS = 0x24, REQUEST = 0x25, CLOSE = 0x26, CLOSED = 0x27, SNAPSHOT = 0x28;
export const DIRECT = 0x2b, VOLATILE_APPEND = 0x2c, VOLATILE_UPDATE = 0x2d;
export const ASK = 0x01, KEYED = 0x02, STREAM = 0x04;

/** `resumption` is field 7 (resumed, the last number received) or 8 (reset, the reason); neither is a new session. */
export const welcome = (resumption = []) => frame(0x01, ...Object.values(FIELDS).flat(), ...resumption,
  9, 8, ...Array(8).fill(0xe0), 10, 1, 120, 11, 16, ...Array(16).fill(0x5e), 15, 1, 50);
export const WELCOME = welcome();
/** Nothing of the client's had been received. */
export const RESUMED = [7, 1, 0];

/** The frames of what the client sent, without its pings and acknowledgements. */
export function frames(sent) {
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

export let errors;
beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  errors = mock.method(console, "error", () => {}).mock;
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

/** A client, what its host heard in order, and its sockets. `on` lets a test act within a callback. */
export function client({ options = {}, on = {} } = {}) {
  const log = [];
  const sockets = [];
  const heard = (name) => (...values) => {
    log.push([name, ...values]);
    return on[name]?.(...values);
  };
  const host = Object.fromEntries(
    [
      "discover", "authorize", "onAuthenticated", "onWarning", "onStatus", "onSession", "onReset", "onConfirmed", "onRefused", "onRoom", "onSettled", "onItem", "onCall", "onCancelled",
      "onCredit", "onMessage", "onChannelOpened", "onUpdate", "onSnapshot", "onCaughtUp", "onVolatile", "onDirect", "onMembers", "onChannelClosed",
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
export function connected(setup = {}) {
  const it = client({ ...setup, options: { ...PLAIN, ...setup.options } });
  it.core.start();
  const socket = it.sockets[0];
  socket.onopen({});
  socket.receive(record(WELCOME));
  return { ...it, socket };
}

/** Callbacks follow a method of `Core` in a microtask. */
export const told = () => Promise.resolve();
export const call = (core, name = "echo", timeoutMs) => core.call(name, 1, text("1"), timeoutMs);

/** The client comes back after a cut and is told this. */
export function back({ core, sockets }, resumption, ...more) {
  sockets.at(-1).end();
  core.retryNow();
  const socket = sockets.at(-1);
  socket.onopen({});
  socket.receive(record(welcome(resumption), ...more));
  return socket;
}
