// What can be wrong with the wasm, and with a page that is to run it: each is named, with a way out.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { assertHelps, claim, NETWORK } from "./support/claim.mjs";
import { page as html } from "./support/project.mjs";
import { answer } from "./support/site.mjs";

const SCRIPT = html('<script type="module" src="/main.js"></script>');
const MAIN = (_, response) =>
  answer(response, 200, "text/javascript", 'import * as moorline from "/moorline/dist/index.js"; globalThis.moorline = moorline;');

/** A page without a bundler, whose wasm is as `routes` and `options` say. */
async function open(stage, routes = {}, options = {}, init = undefined) {
  const { installed } = await stage.project();
  const site = await stage.site({ "/moorline/": installed, "/main.js": MAIN, "/": SCRIPT, ...routes }, options);
  return Object.assign(await stage.page(site.http, init), { site });
}

/** How a client ends that never gets as far as a socket. */
function refusal(page) {
  return page.evaluate(async () => {
    const client = moorline.connect("ws://localhost:1/moorline");
    const [ready, call] = [kit.outcome(client.ready()), kit.outcome(client.call("echo", 1))];
    return { ready: await ready, call: await call, status: kit.status(client.status) };
  });
}

function assertClosed({ ready, call, status }, code) {
  assertHelps(ready.error, code);
  assert.equal(status.status, "closed");
  assertHelps(status.error, code);
  assertHelps(call.error, "closed");
  assert.equal(call.error.remedy, status.error.remedy, "who only looks at the call finds the way out too");
}

async function bytes(stage) {
  return readFile(join((await stage.project()).installed, "dist/core.wasm"));
}

const missing = (_, response) => answer(response, 404, "text/plain", "not here");
const indexPage = (_, response) => answer(response, 200, "text/html; charset=utf-8", SCRIPT);

claim("wasm_that_was_not_shipped_is_wasm_not_found", async (stage) => {
  const page = await open(stage, { "/moorline/dist/core.wasm": missing });
  const ended = await refusal(page);
  assertClosed(ended, "wasm_not_found");
  assert.match(ended.status.error.message, /core\.wasm answered 404/);
  assert.match(ended.status.error.remedy, /moorline\/inline/);
  assert.equal(page.sockets.length, 0);
}, { tolerated: NETWORK });

claim("a_host_that_answers_everything_with_its_index_page_is_wasm_not_found", async (stage) => {
  const ended = await refusal(await open(stage, { "/moorline/dist/core.wasm": indexPage }));
  assertClosed(ended, "wasm_not_found");
  assert.match(ended.status.error.message, /web page/);
  assert.match(ended.status.error.remedy, /optimizeDeps\.exclude = \["moorline"\]/, "Vite 7 in development is such a host");
});

claim("a_server_in_trouble_is_asked_for_the_wasm_again", async (stage) => {
  const { url } = await stage.fixture();
  const wasm = await bytes(stage);
  let asked = 0;
  const page = await open(stage, {
    "/moorline/dist/core.wasm": (_, response) => {
      if (++asked < 3) return answer(response, 503, "text/plain", "later");
      answer(response, 200, "application/wasm", wasm);
    },
  });
  const seen = await page.evaluate(async (url) => {
    const client = moorline.connect(url, { reconnectBaseMs: 1 });
    const seen = kit.statuses(client);
    await client.ready();
    await client.close();
    return seen;
  }, url);
  const waits = seen.filter(({ retryInMs }) => retryInMs !== undefined);
  assert.deepEqual(waits.map(({ attempt, error }) => [attempt, error.code]), [[2, "wasm_not_found"], [3, "wasm_not_found"]]);
  assert.equal(asked, 3);
  assert.equal(seen.find(({ status }) => status === "connected").error, undefined);
}, { tolerated: NETWORK });

claim("wasm_of_a_wrong_type_loads_all_the_same", async (stage) => {
  const { url } = await stage.fixture();
  for (const wasmType of ["application/octet-stream", "text/plain", "application/wasm; charset=utf-8"]) {
    const page = await open(stage, {}, { wasmType });
    const answer = await page.evaluate((url) => moorline.connect(url).call("double", 4), url);
    assert.equal(answer, 8, wasmType);
  }
});

claim("damaged_wasm_is_wasm_invalid", async (stage) => {
  const damaged = (_, response) => answer(response, 200, "application/wasm", "\0asm and then nothing");
  assertClosed(await refusal(await open(stage, { "/moorline/dist/core.wasm": damaged })), "wasm_invalid");
});

claim("a_policy_without_wasm_unsafe_eval_is_wasm_blocked", async (stage) => {
  const headers = { "content-security-policy": "script-src 'self'; connect-src *" };
  const ended = await refusal(await open(stage, {}, { headers }));
  assertClosed(ended, "wasm_blocked");
  assert.match(ended.status.error.remedy, /'wasm-unsafe-eval'/);
}, { tolerated: /Content Security Policy/ });

claim("a_policy_with_wasm_unsafe_eval_works", async (stage) => {
  const { url } = await stage.fixture();
  const headers = { "content-security-policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src *; img-src data:" };
  const page = await open(stage, {}, { headers });
  assert.equal(await page.evaluate((url) => moorline.connect(url).call("double", 4), url), 8);
});

claim("a_page_without_webassembly_is_told_so", async (stage) => {
  const page = await open(stage, {}, {}, () => delete globalThis.WebAssembly);
  assertClosed(await refusal(page), "no_webassembly");
  assert.equal(page.requested.filter((url) => url.endsWith(".wasm")).length, 0);
});

claim("a_page_without_websocket_is_told_so", async (stage) => {
  const page = await open(stage, {}, {}, () => delete globalThis.WebSocket);
  assertClosed(await refusal(page), "no_websocket");
});

claim("preload_fails_with_the_same_error_and_a_later_client_may_succeed", async (stage) => {
  const { url } = await stage.fixture();
  const wasm = await bytes(stage);
  let shipped = false;
  const page = await open(stage, {
    "/moorline/dist/core.wasm": (_, response) =>
      shipped ? answer(response, 200, "application/wasm", wasm) : missing(_, response),
  });
  assertHelps((await page.evaluate(() => kit.outcome(moorline.preload()))).error, "wasm_not_found");
  shipped = true;
  assert.equal(await page.evaluate((url) => moorline.connect(url).call("double", 8), url), 16);
}, { tolerated: NETWORK });
