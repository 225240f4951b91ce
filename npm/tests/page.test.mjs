import assert from "node:assert/strict";
import { test } from "node:test";

import { MoorlineClient } from "../dist/client.js";
import { ConnectError } from "../dist/errors.js";
import { environment, settings, turn } from "./fake-core.mjs";

/** A window and a document, as far as a client follows them; counts listeners by event. */
function page(t) {
  const [window, document] = [new EventTarget(), new EventTarget()];
  const added = [];
  const addTo = (target) => (type, listener, options) => {
    added.push(type);
    target.addEventListener(type, listener, options);
  };
  document.visibilityState = "visible";
  globalThis.addEventListener = addTo(window);
  globalThis.document = { addEventListener: addTo(document), get visibilityState() { return document.visibilityState; } };
  t.after(() => { delete globalThis.addEventListener; delete globalThis.document; });
  return {
    added,
    online: () => window.dispatchEvent(new Event("online")),
    back: (persisted) => window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted })),
    resume: () => document.dispatchEvent(new Event("resume")),
    hide: (persisted) => window.dispatchEvent(Object.assign(new Event("pagehide"), { persisted })),
    show(state) {
      document.visibilityState = state;
      document.dispatchEvent(new Event("visibilitychange"));
    },
  };
}

async function opened() {
  const around = environment();
  const client = new MoorlineClient(settings, around);
  await turn();
  return { client, core: around.core };
}

test("the network's return and a look at the page end the wait for the next try", async (t) => {
  const { online, show, back, resume, added } = page(t);
  const { client, core } = await opened();
  online();
  show("hidden");
  show("visible");
  back(false);
  back(true);
  resume();
  assert.equal(core.only("retryNow").length, 4);
  assert.deepEqual(added.sort(), ["online", "pagehide", "pageshow", "resume", "visibilitychange"], "and none that spoils the back-forward cache");
  client.close();
});

test("they also end the wait for the wasm's next download", async (t) => {
  const { online } = page(t);
  const around = environment();
  const { loadCore } = around;
  let failed = false;
  around.loadCore = async () => {
    if (failed) return loadCore();
    failed = true;
    throw new ConnectError("wasm_not_found", "offline", { retryable: true });
  };
  const random = Math.random;
  Math.random = () => 1;
  t.after(() => (Math.random = random));
  const client = new MoorlineClient({ ...settings, reconnectBaseMs: 60_000, reconnectMaxMs: 60_000 }, around);
  await turn();
  assert.equal(client.status.retryInMs, 60_000);
  online();
  await turn();
  assert.ok(around.core);
  client.close();
});

test("a page that goes says goodbye, one that is kept does not", async (t) => {
  const { hide } = page(t);
  const { core } = await opened();
  hide(true);
  assert.deepEqual(core.only("close"), []);
  hide(false);
  assert.deepEqual(core.only("close"), [["close"]]);
});

test("a closed client no longer follows its page", async (t) => {
  const { online, show, hide } = page(t);
  const { core } = await opened();
  core.closed();
  await turn();
  const before = core.log.length;
  online();
  show("visible");
  hide(false);
  assert.equal(core.log.length, before);
});
