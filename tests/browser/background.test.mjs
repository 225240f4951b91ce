// Tabs that nobody looks at: their timers are throttled, they are frozen, their machine sleeps.
import assert from "node:assert/strict";

import { claim, NETWORK } from "./support/claim.mjs";
import { PING, PONG } from "./support/recorder.mjs";

const QUICK = { encryption: "off", reconnectBaseMs: 5, reconnectMaxMs: 20 };
const IDLE_MS = 500;

/** A server's configuration: when it asks a silent client, and when it gives it up. */
const heartbeat = (idleMs, graceMs) => `heartbeat = { idle = "${idleMs}ms", grace = "${graceMs}ms" }`;

const connections = (statuses) => statuses.filter((status) => status === "connected").length;

/** In a page: a client that keeps book of what becomes of it. */
async function begin([url, options]) {
  globalThis.client = moorline.connect(url, options);
  await client.ready();
  globalThis.first = client.session.id;
  globalThis.statuses = ["connected"];
  globalThis.resets = kit.events(client, "reset");
  globalThis.said = [];
  client.on("status", ({ status }) => statuses.push(status));
  client.listen("said", (n) => said.push(n));
  globalThis.book = () => ({
    statuses,
    resets,
    said,
    connected: client.status.status === "connected",
    same: client.session.id === first,
  });
}

/** In a page: when it is no longer looked at. */
function hidden() {
  return new Promise((resolve) => {
    const look = () => document.visibilityState === "hidden" && resolve();
    document.addEventListener("visibilitychange", look);
    look();
  });
}

claim("a_tab_in_the_background_answers_every_ping_on_its_one_socket_and_comes_back_from_a_cut", async (stage) => {
  // It stays there for twice as long as it takes to be dead.
  const { http, url } = await stage.fixture({ toml: heartbeat(IDLE_MS, 4_000), encryption: "off" });
  const recorder = await stage.recorder(url);
  const tabs = await stage.tabs();
  const behind = await tabs.tab(http);
  await behind.evaluate(begin, [recorder.url, QUICK]);
  const front = await tabs.tab(http);
  await behind.evaluate(hidden);
  const before = recorder.count("downward", PING);
  const { tookMs, ...seen } = await behind.evaluate(async () => {
    const from = performance.now();
    for (let n = 0; n < 10; n++) await new Promise((resolve) => setTimeout(resolve, 100));
    const tookMs = performance.now() - from;
    await client.call("double", 1);
    return { tookMs, ...book() };
  });
  assert(tookMs > 8_000, `ten timers of 100 ms took ${tookMs} ms: a tab in the background has one a second`);
  assert.deepEqual(seen, { statuses: ["connected"], resets: [], said: [], connected: true, same: true });
  assert.equal(recorder.lines, 1);
  const pings = recorder.count("downward", PING) - before;
  assert(pings >= 5 && pings <= tookMs / IDLE_MS + 1, `${pings} pings in ${tookMs} ms`);
  assert(recorder.count("upward", PONG) >= pings, "each is answered at once, whatever its timers do");
  assert(recorder.count("upward", PING) <= 1, "it has asked once, for the round trip");

  recorder.cut();
  const other = await front.evaluate(async (url) => {
    globalThis.other = moorline.connect(url, { encryption: "off" });
    for (let n = 0; n < 10; n++) await other.call("say", n);
    return other.status.status;
  }, url);
  assert.equal(other, "connected");
  const after = await behind.evaluate(async () => {
    while (said.length < 10) await client.call("double", 1);
    return book();
  });
  assert.deepEqual([after.said, after.resets, after.same], [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [], true]);
  assert.equal(connections(after.statuses), 2, String(after.statuses));
  assert.equal(recorder.lines, 2, "one try was enough");
}, { tolerated: NETWORK });

claim("a_frozen_tab_is_given_up_once_and_comes_back_once_to_everything_that_it_has_missed", async (stage) => {
  const { http, url } = await stage.fixture({ toml: heartbeat(1_000, 2_000), encryption: "off" });
  const recorder = await stage.recorder(url);
  const tabs = await stage.tabs();
  const behind = await tabs.tab(http);
  await behind.evaluate(begin, [recorder.url, QUICK]);
  const front = await tabs.tab(http);
  await front.evaluate(async (url) => {
    globalThis.client = moorline.connect(url, { encryption: "off" });
    await client.ready();
  }, url);
  await behind.evaluate(hidden);
  await behind.evaluate(() => document.addEventListener("freeze", () => (globalThis.frozen = true)));
  await behind.freeze();
  const before = recorder.count("downward", PING);
  // Some of it while the server still thinks that it is there, and the rest for when it comes back.
  const say = async ([from, to]) => {
    for (let n = from; n < to; n++) await client.call("say", n);
  };
  await front.evaluate(say, [0, 20]);
  await recorder.ended(0);
  await front.evaluate(say, [20, 40]);
  assert(await behind.evaluate(() => frozen && said.length === 0), "it has heard that it is frozen, and nothing since");
  assert.equal(recorder.lines, 1, "who is frozen tries nothing");
  assert.equal(recorder.count("downward", PING) - before, 1, "it was asked once, and then given up");
  await behind.thaw();
  const seen = await behind.evaluate(async () => {
    while (said.length < 40) await client.call("double", 1);
    return book();
  });
  assert.deepEqual(seen.said, Array.from({ length: 40 }, (_, n) => n));
  assert.deepEqual([seen.resets, seen.connected, seen.same], [[], true, true]);
  assert.equal(connections(seen.statuses), 2, String(seen.statuses));
  assert.equal(recorder.lines, 2, "one try was enough");
  assert(recorder.count("upward", PING) <= 2, "it has asked once on each connection, for the round trip");
}, { tolerated: NETWORK });

claim("a_page_whose_machine_slept_an_hour_asks_once_and_keeps_its_socket", async (stage) => {
  const { http, url } = await stage.fixture({ encryption: "off" });
  const recorder = await stage.recorder(url);
  // No test can send the machine to sleep. What a page sees of it is that its clock has jumped, and that all timers that
  // were due in the meantime fire at once.
  const page = await stage.page(http, () => {
    const { performance, setTimeout, clearTimeout } = globalThis;
    const now = performance.now.bind(performance);
    const timers = new Map();
    let slept = 0;
    performance.now = () => now() + slept;
    globalThis.setTimeout = (run, ms) => {
      const fire = () => (timers.delete(timer), run());
      const timer = setTimeout(fire, ms);
      timers.set(timer, { fire, due: performance.now() + ms });
      return timer;
    };
    globalThis.clearTimeout = (timer) => (timers.delete(timer), clearTimeout(timer));
    globalThis.sleep = (ms) => {
      slept += ms;
      for (const [timer, { fire, due }] of timers) {
        if (due > performance.now()) continue;
        globalThis.clearTimeout(timer);
        setTimeout(fire, 0);
      }
    };
  });
  await page.evaluate(begin, [recorder.url, QUICK]);
  const seen = await page.evaluate(async () => {
    await client.call("double", 1);
    sleep(3_600_000);
    // Behind those that were due.
    await new Promise((resolve) => setTimeout(resolve, 0));
    document.dispatchEvent(new Event("resume"));
    await client.call("say", 1);
    while (said.length < 1) await client.call("double", 1);
    return book();
  });
  assert.deepEqual(seen, { statuses: ["connected"], resets: [], said: [1], connected: true, same: true });
  assert.equal(recorder.lines, 1);
  assert.equal(recorder.count("upward", PING), 2, "for the round trip at first, and for a sign of life now");
});
