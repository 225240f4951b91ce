/** A test is a claim, shown on a stage: servers and pages that go when it ends, and that must have been quiet. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { chromium } from "playwright-core";

import * as environment from "./environment.mjs";
import { startCutter } from "./cutter.mjs";
import { reserve, startNginx } from "./nginx.mjs";
import { startTabs } from "./devtools.mjs";
import { startFixture, startMoorline, startNode } from "./processes.mjs";
import { project } from "./project.mjs";
import { startRecorder } from "./recorder.mjs";
import { startSite } from "./site.mjs";

// Longer than anything here takes on a busy machine; reaching it fails the test.
const PATIENCE_MS = 60_000;

/** What Chromium itself writes to the console about a server that does not answer as it should. */
export const NETWORK = /Failed to load resource|WebSocket connection to .* failed|blocked by CORS policy/;

let browser;
after(async () => (await browser)?.close());

function launch() {
  return (browser ??= chromium.launch({ executablePath: environment.chromium, args: environment.chromiumArguments }));
}

/**
 * @param name a sentence that is true when the test passes
 * @param show gets a {@link Stage}
 * @param tolerated what may be on a page's console and be an error
 * @param patienceMs for one that does much, and takes less on a machine that does nothing else
 */
export function claim(name, show, { tolerated, patienceMs = PATIENCE_MS } = {}) {
  test(name, async () => {
    const stage = new Stage();
    // Not the runner's own time limit, which would leave the stage as it is.
    const impatience = new AbortController();
    const tooLong = sleep(patienceMs, undefined, impatience).then(() => assert.fail("it takes too long"));
    try {
      await Promise.race([show(stage), tooLong]);
    } finally {
      impatience.abort();
      tooLong.catch(() => {});
      await stage.end();
    }
    const loud = stage.complaints.filter((text) => !tolerated?.test(text));
    assert.deepEqual(loud, [], "errors on the console, or exceptions and rejections that nobody handled");
  });
}

class Stage {
  complaints = [];
  #endings = [];

  /** Runs when the test is over, before what was there earlier ends. */
  onEnd(end) {
    this.#endings.push(end);
  }

  /** Where the project's folders are. */
  project() {
    return project();
  }

  /** `tests/src/bin/fixture.rs`, by default with the pages that Vite built. */
  async fixture({ public: folder, ...options } = {}) {
    const served = folder ?? (await project()).vite;
    const fixture = await startFixture({ public: served, ...options });
    this.#endings.push(() => fixture.stop("SIGKILL"));
    return fixture;
  }

  async moorline(options) {
    const moorline = await startMoorline(options);
    this.#endings.push(() => moorline.stop("SIGKILL"));
    return moorline;
  }

  /** The address that nginx will have, for the server behind it, which comes first. */
  frontDoor() {
    return reserve();
  }

  /** nginx before a server, with the pages that Vite built. */
  async nginx(options) {
    const nginx = await startNginx({ root: (await project()).vite, ...options });
    // Gently, or its worker stays.
    this.#endings.push(() => nginx.stop("SIGTERM"));
    return nginx;
  }

  node(folder, source, env) {
    const running = startNode(folder, source, env);
    this.#endings.push(() => running.stop("SIGKILL"));
    return running;
  }

  async site(routes, options) {
    const site = await startSite(routes, options);
    this.#endings.push(() => site.stop());
    return site;
  }

  async recorder(url) {
    const recorder = await startRecorder(url);
    this.#endings.push(() => recorder.stop());
    return recorder;
  }

  async cutter(url, options) {
    const cutter = await startCutter(url, options);
    this.#endings.push(() => cutter.stop());
    return cutter;
  }

  /** A page of its own context, opened at this URL. `init` runs in it before every script; `options` are the context's. */
  async page(url, init, options) {
    const context = await (await launch()).newContext(options);
    this.#endings.push(() => context.close());
    await context.addInitScript({ path: join(environment.here, "support/kit.js") });
    if (init) await context.addInitScript(init);
    return this.tab(context, url);
  }

  /** Another page of a context that is there: they share what the browser keeps. */
  async tab(context, url) {
    const page = await context.newPage();
    page.on("console", (message) => message.type() === "error" && this.complaints.push(message.text()));
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.requested = [];
    page.on("request", (request) => page.requested.push(request.url()));
    page.sockets = [];
    page.on("websocket", (socket) => page.sockets.push(socket.url()));
    if (url) await page.goto(url);
    return page;
  }

  /** Tabs that can be in the background and be frozen: see {@link startTabs}. */
  async tabs() {
    const tabs = await startTabs((text) => this.complaints.push(text));
    this.#endings.push(() => tabs.stop());
    return tabs;
  }

  /** Later endings first: pages leave before their servers do. */
  async end() {
    for (const end of this.#endings.reverse()) await end();
  }
}

/** An error that helps: the code for the program, a text and a way out for a person. */
export function assertHelps(error, code) {
  assert(error, `there is no error, ${code} was expected`);
  assert.equal(error.code, code, JSON.stringify(error));
  assert(error.isOurs, "MoorlineError.is knows it");
  assert(error.message.length > 10, error.message);
  assert(error.remedy.length > 10, error.remedy);
}
