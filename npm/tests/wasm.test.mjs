import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { findWebSocket } from "../dist/socket.js";
import { compile } from "../dist/wasm.js";

/** The smallest module there is: magic and version. */
const EMPTY = new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
const answer = (body, type, status = 200) => new Response(body, { status, headers: type ? { "content-type": type } : {} });

/** What `fetch` answers, for one test. */
function fetching(t, ...answers) {
  mock.method(globalThis, "fetch", async () => {
    const next = answers.shift();
    if (next instanceof Response) return next;
    throw next;
  });
  t.after(() => mock.restoreAll());
}

test("every kind of source compiles", async (t) => {
  fetching(t, answer(EMPTY, "application/wasm"), answer(EMPTY, "application/wasm; charset=x"));
  const module = await WebAssembly.compile(EMPTY);
  const sources = [
    EMPTY, EMPTY.buffer, new DataView(EMPTY.buffer), module, Promise.resolve(EMPTY), answer(EMPTY, "application/wasm"),
    Promise.resolve(answer(EMPTY)), "https://example.com/core.wasm", new URL("https://example.com/core.wasm"), () => EMPTY,
  ];
  for (const source of sources) assert.ok((await compile(source)) instanceof WebAssembly.Module);
  assert.equal(await compile(module), module);
});

test("the right type is compiled while it streams, a wrong one falls back to the bytes", async (t) => {
  const streaming = mock.method(WebAssembly, "compileStreaming");
  fetching(t, answer(EMPTY, "application/wasm"), answer(EMPTY, "application/octet-stream"), answer(EMPTY, "text/plain"), answer(EMPTY));
  for (let n = 0; n < 4; n++) await compile("/core.wasm");
  assert.equal(streaming.mock.callCount(), 1);
});

test("where streaming is not offered the bytes do", async (t) => {
  fetching(t, answer(EMPTY, "application/wasm"));
  const streaming = WebAssembly.compileStreaming;
  delete WebAssembly.compileStreaming;
  t.after(() => (WebAssembly.compileStreaming = streaming));
  assert.ok(await compile("/core.wasm"));
});

test("a file that is not there is final, and its remedy names the ways out", async (t) => {
  fetching(t, answer("gone", "text/plain", 404), answer("<!doctype html>", "text/html; charset=utf-8"));
  for (let n = 0; n < 2; n++) {
    await assert.rejects(compile("/core.wasm"), ({ name, code, retryable, remedy }) => {
      assert.deepEqual([name, code, retryable], ["ConnectError", "wasm_not_found", false]);
      assert.match(remedy, /moorline\/inline/);
      return /optimizeDeps\.exclude/.test(remedy);
    });
  }
});

test("a network that fails, a server in trouble and a broken download are tried again", async (t) => {
  const broken = new ReadableStream({ start: (controller) => controller.error(new TypeError("terminated")) });
  const broken2 = new ReadableStream({ start: (controller) => controller.error(new TypeError("terminated")) });
  fetching(t, new TypeError("fetch failed"), answer("later", "text/plain", 503), answer("slow down", undefined, 429),
    answer(broken, "application/wasm"), answer(broken2));
  for (let n = 0; n < 5; n++) await assert.rejects(compile("/core.wasm"), { code: "wasm_not_found", retryable: true });
});

test("a response of the caller's is used up, so its failure is final", async () => {
  const used = answer(EMPTY);
  await used.arrayBuffer();
  await assert.rejects(compile(used), { code: "wasm_not_found", retryable: false });
  await assert.rejects(compile(answer("gone", undefined, 404)), { code: "wasm_not_found", retryable: false });
  await assert.rejects(compile(Promise.reject(new Error("ENOENT"))), { code: "wasm_not_found", retryable: false });
  await assert.rejects(compile(() => { throw new TypeError("Invalid URL"); }), { code: "wasm_not_found", retryable: false });
});

test("damaged wasm is named, however it comes", async (t) => {
  const damaged = EMPTY.slice().fill(0xff, 4);
  fetching(t, answer(damaged, "application/wasm"), answer(damaged), answer("plain text"));
  for (const source of ["/a", "/b", "/c", damaged]) {
    await assert.rejects(compile(source), { code: "wasm_invalid", retryable: false, remedy: /service worker/ });
  }
});

test("a Content-Security-Policy that forbids wasm is recognised in every browser's words", async (t) => {
  const words = [
    new WebAssembly.CompileError("WebAssembly.compile(): Refused to compile or instantiate WebAssembly module because neither 'wasm-eval' nor 'unsafe-eval' is an allowed source of script in the following Content Security Policy directive"),
    new WebAssembly.CompileError("call to WebAssembly.compile() blocked by CSP"),
    new EvalError("Refused to create a WebAssembly object because 'unsafe-eval' or 'wasm-unsafe-eval' is not an allowed source of script"),
  ];
  t.after(() => mock.restoreAll());
  for (const thrown of words) {
    mock.method(WebAssembly, "compile", async () => { throw thrown; });
    mock.method(WebAssembly, "compileStreaming", async () => { throw thrown; });
    for (const source of [EMPTY, answer(EMPTY), answer(EMPTY, "application/wasm")]) {
      await assert.rejects(compile(source), { code: "wasm_blocked", retryable: false, remedy: /'wasm-unsafe-eval'/, cause: thrown });
    }
    mock.restoreAll();
  }
});

test("without WebAssembly the error says so", async (t) => {
  const { WebAssembly: present } = globalThis;
  delete globalThis.WebAssembly;
  t.after(() => (globalThis.WebAssembly = present));
  await assert.rejects(compile(EMPTY), { code: "no_webassembly", retryable: false, remedy: /lockdown/ });
});

test("the WebSocket is the option's, then the platform's, then what the entry imports", async (t) => {
  class Mine {}
  class Global {}
  const present = Object.getOwnPropertyDescriptor(globalThis, "WebSocket");
  t.after(() => present && Object.defineProperty(globalThis, "WebSocket", present));
  globalThis.WebSocket = Global;
  assert.equal(await findWebSocket(Mine), Mine);
  assert.equal(await findWebSocket(), Global);
  delete globalThis.WebSocket;
  assert.equal(await findWebSocket(undefined, async () => Mine), Mine);
});

test("no WebSocket anywhere is an error that helps", async (t) => {
  const present = Object.getOwnPropertyDescriptor(globalThis, "WebSocket");
  t.after(() => present && Object.defineProperty(globalThis, "WebSocket", present));
  delete globalThis.WebSocket;
  const error = { name: "ConnectError", code: "no_websocket", remedy: /npm install ws/ };
  await assert.rejects(findWebSocket(), error);
  await assert.rejects(findWebSocket(undefined, () => import("not-installed")), error);
});
