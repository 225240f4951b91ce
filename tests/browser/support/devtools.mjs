/**
 * A Chromium that is driven by its DevTools protocol alone. Playwright keeps every page looked at and awake, whatever is
 * in front of it; here a tab that another one covers is hidden, its timers are throttled, and it can be frozen.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";

import { WebSocket } from "ws";

import * as environment from "./environment.mjs";

/** @param complain hears of errors on a console and of what nobody handled */
export async function startTabs(complain) {
  const profile = await mkdtemp(join(environment.scratch, "profile-"));
  const ours = ["--headless", `--user-data-dir=${profile}`, "--remote-debugging-port=0", "about:blank"];
  const chromium = spawn(environment.chromium, [...environment.chromiumArguments, ...ours], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(chromium, "close");
  const stop = async () => {
    chromium.kill("SIGKILL");
    await ended;
    await rm(profile, { recursive: true, force: true, maxRetries: 10 });
  };
  try {
    return { ...(await drive(await address(chromium), complain)), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Where its DevTools are: it says so. */
async function address(chromium) {
  let text = "";
  for await (const piece of chromium.stderr) {
    text += piece;
    const found = /DevTools listening on (ws:\S+)/.exec(text);
    if (!found) continue;
    chromium.stderr.on("data", () => {}); // What is not read would stop it.
    return found[1];
  }
  assert.fail(`Chromium did not start: ${text}`);
}

async function drive(url, complain) {
  const devtools = new WebSocket(url);
  await once(devtools, "open");
  const waiting = new Map();
  const listeners = new Map();
  devtools.on("message", (text) => {
    const { id, result, error, sessionId, method, params } = JSON.parse(text);
    if (id === undefined) return listeners.get(`${sessionId} ${method}`)?.(params);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  });
  let last = 0;
  const send = (method, params = {}, sessionId = undefined) => new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    devtools.send(JSON.stringify({ id: last, method, params, sessionId }));
  });
  const kit = await readFile(join(environment.here, "support/kit.js"), "utf8");

  /** A tab with this page, in front of all others. */
  async function tab(page) {
    const { targetId } = await send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
    const to = (method, params) => send(method, params, sessionId);
    const on = (method, hear) => listeners.set(`${sessionId} ${method}`, hear);
    on("Runtime.exceptionThrown", ({ exceptionDetails: { text, exception } }) => complain(exception?.description ?? text));
    on("Runtime.consoleAPICalled", ({ type, args }) => {
      if (type === "error") complain(args.map(({ value, description }) => String(value ?? description)).join(" "));
    });
    const loaded = new Promise((resolve) => on("Page.loadEventFired", resolve));
    await to("Runtime.enable");
    await to("Page.enable");
    await to("Page.addScriptToEvaluateOnNewDocument", { source: kit });
    await to("Page.navigate", { url: page });
    await loaded;
    return {
      /** What the function gives in the page, when it is settled. It answers in a page that is frozen, too. */
      async evaluate(run, arg) {
        const expression = `(${run})(${JSON.stringify(arg)})`;
        const { result, exceptionDetails } =
          await to("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
        assert(!exceptionDetails, exceptionDetails?.exception?.description ?? exceptionDetails?.text);
        return result.value;
      },
      freeze: () => to("Page.setWebLifecycleState", { state: "frozen" }),
      thaw: () => to("Page.setWebLifecycleState", { state: "active" }),
    };
  }
  return { tab };
}
