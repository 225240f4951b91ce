import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { codes } from "../dist/codes.gen.js";
import { CallError, ConnectError, Fail, MoorlineError } from "../dist/errors.js";
import { checkAuthenticateOptions, checkConnectOptions, checkPreloadOptions } from "../dist/options.js";
import { settingsFrom } from "../dist/settings.js";
import { resolveUrl } from "../dist/url.js";
import { version } from "../dist/version.js";

const page = new URL("https://app.example.com/room/42?tab=chat#top");
const local = new URL("http://localhost:5173/");

test("an unknown option is named with its nearest neighbour", () => {
  const remedy = (options) => {
    try {
      checkConnectOptions(options);
    } catch (error) {
      assert.equal(error.code, "invalid_option");
      assert.match(error.message, new RegExp(`\`${Object.keys(options)[0]}\``));
      return error.remedy.match(/^Did you mean `(\w+)`/)?.[1];
    }
    return assert.fail("was taken");
  };
  assert.equal(remedy({ servrKey: "" }), "serverKey");
  assert.equal(remedy({ SERVERKEY: "" }), "serverKey");
  assert.equal(remedy({ websocket: "" }), "webSocket");
  assert.equal(remedy({ callTimeout: 1 }), "callTimeoutMs");
  assert.equal(remedy({ timeoutMs: 1 }), "connectTimeoutMs");
  assert.equal(remedy({ transports: [] }), undefined);
});

/** It was found when it was to be shown, taken for a provider that failed, and tried again for ever. */
test("regression: what cannot be shown to an auth handler is refused at once", () => {
  const circular = {};
  circular.self = circular;
  for (const auth of [() => ({ name: "ann" }), { big: 1n }, circular, new Float64Array(1)]) {
    for (const check of [checkConnectOptions, checkAuthenticateOptions]) {
      assert.throws(() => check({ auth }), { code: "invalid_option", message: /`auth`/ });
    }
  }
  for (const auth of [null, 0, "", { name: "ann" }, new Uint8Array(1)]) checkConnectOptions({ auth });
});

test("a wrong value is named with what would be right", () => {
  const wrong = [
    [{ serverKey: 1 }, /a string or an array of strings, not 1/],
    [{ serverKey: [1] }, /array of strings/],
    [{ encryption: "aes" }, /"aes-256-gcm", "chacha20-poly1305" or "off", not "aes"/],
    [{ allowInsecureDiscovery: "yes" }, /true or false/],
    [{ connectTimeoutMs: Infinity }, /above 0, not Infinity/],
    [{ callTimeoutMs: -1 }, /or Infinity, not -1/],
    [{ callTimeoutMs: "10s" }, /milliseconds/],
    [{ reconnectMaxMs: NaN }, /milliseconds/],
    [{ reconnect: null }, /true or false, not null/],
    [{ webSocket: "ws" }, /a WebSocket class/],
    [{ wasm: 1 }, /bytes, a URL/],
  ];
  for (const [options, message] of wrong) {
    assert.throws(() => checkConnectOptions(options), { name: "MoorlineError", code: "invalid_option", message });
  }
  assert.throws(() => checkConnectOptions("wss://example.com"), { code: "invalid_option", message: /must be an object/ });
  assert.throws(() => checkPreloadOptions({ signal: {} }), { message: /an AbortSignal/ });
});

test("an option that is undefined is one that was left out", () => {
  const settings = settingsFrom("ws://localhost:2667/moorline", checkConnectOptions({ serverKey: undefined, reconnect: undefined }));
  assert.deepEqual(settings, {
    url: "ws://localhost:2667/moorline",
    encryption: "aes-256-gcm",
    serverKeys: [],
    sharedKey: "",
    asksForCredentials: false,
    token: undefined,
    auth: undefined,
    allowInsecureDiscovery: false,
    connectTimeoutMs: 10_000,
    callTimeoutMs: 10_000,
    reconnect: true,
    reconnectBaseMs: 200,
    reconnectMaxMs: 20_000,
    clientVersion: `moorline/${version}`,
    offline: "queue",
  });
});

test("times are whole and finite for Rust", () => {
  const settings = settingsFrom("ws://localhost/", { callTimeoutMs: Infinity, connectTimeoutMs: 0.5 });
  assert.equal(settings.callTimeoutMs, 2 ** 31 - 1);
  assert.equal(settings.connectTimeoutMs, 1);
});

test("a shared key is told from a server's key and from a passphrase, which is not repeated", () => {
  const of = (sharedKey) => settingsFrom("wss://example.com", { sharedKey }).sharedKey;
  assert.equal(of(" mlkey_a "), "mlkey_a");
  assert.equal(of(""), "", "an unset variable of a build is no key");
  assert.throws(() => of("mlpub_a"), { code: "invalid_shared_key", remedy: /serverKey/ });
  assert.throws(() => of("hunter2"), (error) => error.code === "invalid_shared_key" && !error.message.includes("hunter2"));
});

test("server keys are one, several, or several with commas", () => {
  const keys = (serverKey) => settingsFrom("wss://example.com", { serverKey }).serverKeys;
  assert.deepEqual(keys("mlpub_a"), ["mlpub_a"]);
  assert.deepEqual(keys("mlpub_a, mlpub_b,"), ["mlpub_a", "mlpub_b"]);
  assert.deepEqual(keys(["mlpub_a", "mlpub_b"]), ["mlpub_a", "mlpub_b"]);
  assert.deepEqual(keys(""), [], "an unset variable of a build is no key");
});

test("a shared key in place of the server's is named as such and not repeated", () => {
  assert.throws(() => settingsFrom("wss://example.com", { serverKey: "mlkey_secret" }), (error) => {
    assert.equal(error.code, "invalid_server_key");
    assert.match(error.message, /shared key/);
    return !`${error.message}${error.remedy}`.includes("secret_") && !error.message.includes("mlkey_secret");
  });
  assert.throws(() => settingsFrom("wss://example.com", { serverKey: "abc" }), { code: "invalid_server_key", remedy: /identity show/ });
});

test("URLs resolve against the page", () => {
  const cases = [
    [undefined, page, "wss://app.example.com/moorline"],
    ["/live", page, "wss://app.example.com/live"],
    ["live", page, "wss://app.example.com/room/live"],
    ["//other.example.com/x", page, "wss://other.example.com/x"],
    ["http://localhost:2667/moorline", page, "ws://localhost:2667/moorline"],
    ["ws://127.0.0.1:2667/", page, "ws://127.0.0.1:2667/"],
    ["ws://[::1]:2667/", page, "ws://[::1]:2667/"],
    [undefined, local, "ws://localhost:5173/moorline"],
    ["https://example.com/a#d", undefined, "wss://example.com/a"],
    ["wss://example.com/a?", undefined, "wss://example.com/a"],
    [new URL("wss://example.com/a"), undefined, "wss://example.com/a"],
  ];
  for (const [url, base, resolved] of cases) assert.equal(resolveUrl(url, base), resolved);
});

test("URLs that cannot work are refused with what would", () => {
  const cases = [
    [undefined, undefined, /pass an absolute URL/],
    ["/moorline", undefined, /pass an absolute URL/],
    ["localhost:2667/moorline", undefined, /Write ws:\/\/localhost:2667\/moorline/],
    ["ftp://example.com", page, /ws:\/\/ or wss:\/\//],
    ["wss://ann:secret@example.com", page, /absolute ws:/],
    ["ws://example.com/moorline", page, /Use wss:/],
    ["http://[", page, /absolute ws:/],
    ["wss://example.com/moorline?token=x.y.z", page, /option token/],
    [undefined, new URL("about:blank"), /absolute ws:/],
  ];
  for (const [url, base, remedy] of cases) assert.throws(() => resolveUrl(url, base), { code: "invalid_url", remedy });
});

test("errors are known across copies of the package", async () => {
  const copy = await import("../dist/errors.js?copy");
  assert.notEqual(copy.MoorlineError, MoorlineError);
  assert.ok(copy.MoorlineError.is(new CallError("timeout")));
  assert.ok(MoorlineError.is(new copy.Fail("mine", "Mine")));
  for (const other of [new Error("x"), null, undefined, "timeout", { code: "timeout" }]) assert.ok(!MoorlineError.is(other));
});

test("errors take their words from the registry and keep an application's own", () => {
  const known = new ConnectError("draining");
  assert.equal(known.message, codes.draining.text);
  assert.equal(known.remedy, codes.draining.remedy);
  assert.equal(known.retryable, true);
  assert.equal(`${known}`, `ConnectError: ${codes.draining.text}`);
  assert.ok(known instanceof MoorlineError && known instanceof Error);
  const own = new Fail("no_move", "The game is over");
  assert.deepEqual([own.code, own.message, own.remedy, own.retryable], ["no_move", "The game is over", "The game is over", false]);
  assert.equal(new CallError("toString").message, "toString", "a code is no name of Object.prototype");
});

test("the version is package.json's", () => {
  assert.equal(version, JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version);
});
