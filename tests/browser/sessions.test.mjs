// Sessions that outlive connections: nothing is lost, doubled or reordered by a broken line, and where it must be the
// client is told once.
import assert from "node:assert/strict";
import { join } from "node:path";

import { assertHelps, claim, NETWORK } from "./support/claim.mjs";
import { here } from "./support/environment.mjs";

const QUICK = { reconnectBaseMs: 5, reconnectMaxMs: 20 };
const HOUR = 3_600_000;
const PATIENT = { reconnectBaseMs: HOUR, reconnectMaxMs: HOUR };

// To the server 31,000 messages and calls, from it 21,000 and the answers to those calls.
const NOTES = 16_000;
const CALLS = 10_000;
const CUTS = 250;
// A few end within the handshake; together they last for about as long as the traffic does.
const LIVES = [5_000, 20_000, 160_000, 1_200_000];
const PATIENCE_MS = 180_000;
const WHOLE = { notes: NOTES, once: CALLS, asked: CALLS / 2, reversed: CALLS / 100, odd: [] };

claim("in_chromium_hundreds_of_cuts_lose_double_and_reorder_nothing", async (stage) => {
  const { http, url, key } = await stage.fixture();
  // Chromium makes a page wait whose upgrades fail, so here hardly any do.
  const cutter = await stage.cutter(url, { seed: 7, cuts: CUTS, lives: LIVES });
  const page = await stage.page(http);
  const { found, resets, sessions } = await page.evaluate(async ([url, options, amount]) => {
    const client = moorline.connect(url, options);
    const [resets, sessions] = [kit.events(client, "reset"), kit.events(client, "session")];
    const found = await kit.traffic(client, amount);
    await client.close();
    return { found, resets, sessions: sessions.map(({ id, resumed }) => ({ id, resumed })) };
  }, [cutter.url, { ...QUICK, serverKey: key }, { notes: NOTES, calls: CALLS }]);
  assertWhole(found, resets, sessions, cutter);
}, { tolerated: NETWORK, patienceMs: PATIENCE_MS });

claim("in_node_hundreds_of_cuts_lose_double_and_reorder_nothing", async (stage) => {
  const { withWs } = await stage.project();
  const { url, key } = await stage.fixture();
  const cutter = await stage.cutter(url, { seed: 11, cuts: CUTS, lives: [800, ...LIVES] });
  const node = stage.node(withWs, `
    import { connect } from "moorline";
    await import(${JSON.stringify(new URL(`file://${join(here, "support/kit.js")}`))});
    const client = connect("${cutter.url}", ${JSON.stringify({ ...QUICK, serverKey: key })});
    const [resets, sessions] = [kit.events(client, "reset"), kit.events(client, "session")];
    const found = await kit.traffic(client, ${JSON.stringify({ notes: NOTES, calls: CALLS })});
    await client.close();
    console.log(JSON.stringify({ found, resets, sessions: sessions.map(({ id, resumed }) => ({ id, resumed })) }));
  `);
  const { found, resets, sessions } = await node.next();
  assertWhole(found, resets, sessions, cutter);
}, { patienceMs: PATIENCE_MS });

function assertWhole(found, resets, sessions, { done }) {
  assert.deepEqual(found, WHOLE);
  assert.deepEqual(resets, []);
  assert.equal(new Set(sessions.map(({ id }) => id)).size, 1, "one session over all of it");
  assert.deepEqual([...new Set(sessions.slice(1).map(({ resumed }) => resumed))], [true]);
  assert(done.cuts >= CUTS, `${done.cuts} cuts`);
  assert(sessions.length > CUTS / 4, `${sessions.length} connections of ${done.lines} got as far as a session`);
}

claim("a_killed_server_is_one_reset_with_what_is_unconfirmed_and_it_goes_on", async (stage) => {
  const first = await stage.fixture();
  const cutter = await stage.cutter(first.url);
  const page = await stage.page(first.http);
  await page.evaluate(async ([url, options]) => {
    globalThis.client = moorline.connect(url, options);
    globalThis.told = [];
    client.on("reset", (reset) => told.push(reset));
    client.on("session", ({ resumed }) => told.push(resumed));
    client.on("status", ({ status }) => status === "connected" && told.push(status));
    await client.ready();
    for (let n = 0; n < 500; n++) client.notify("note", { n });
    await client.notify("note", "the last of what has arrived", { acknowledged: true });
  }, [cutter.url, { ...QUICK, serverKey: first.key }]);
  // What is sent from here on nobody gets.
  cutter.stall();
  await page.evaluate(async () => {
    globalThis.flight = {
      call: kit.outcome(client.call("double", 1)),
      keyed: kit.outcome(client.call("double", 2, { idempotencyKey: crypto.randomUUID(), timeoutMs: 50_000 })),
      acknowledged: kit.outcome(client.notify("asked", 1, { acknowledged: true })),
    };
    client.notify("plain", 2);
    const { bytesSent } = client.stats();
    if (bytesSent === 0) throw new Error("nothing has left");
  });
  await first.stop("SIGKILL");
  cutter.cut();
  await stage.fixture({ port: first.port });
  const { told, call, keyed, acknowledged, after } = await page.evaluate(async () => {
    const [call, keyed, acknowledged] = await Promise.all([flight.call, flight.keyed, flight.acknowledged]);
    const late = kit.heard(client, "noted");
    client.notify("note", "after");
    return { told, call, keyed, acknowledged, after: [await client.call("double", 4), (await late)[0]] };
  });
  const unconfirmed = [
    { kind: "call", name: "double" },
    { kind: "notify", name: "asked" },
    { kind: "notify", name: "plain" },
  ];
  assert.deepEqual(told, [false, "connected", { reason: "restart", unconfirmed }, false, "connected"]);
  assertHelps(call.error, "unknown");
  assertHelps(acknowledged.error, "unknown");
  assert.equal(keyed.value, 4, "its key makes it safe to send it again");
  assert.deepEqual(after, [8, "after"]);
}, { tolerated: NETWORK });

claim("a_client_that_stays_away_too_long_hears_that_its_session_expired", async (stage) => {
  const { http, url, key } = await stage.fixture({ resumeWindowMs: 1 });
  const cutter = await stage.cutter(url);
  const page = await stage.page(http);
  await page.evaluate(async ([url, options]) => {
    globalThis.client = moorline.connect(url, options);
    await client.ready();
    globalThis.reset = new Promise((resolve) => client.on("reset", resolve));
  }, [cutter.url, { ...QUICK, serverKey: key }]);
  cutter.cut();
  assert.deepEqual(await page.evaluate(() => reset), { reason: "expired", unconfirmed: [] });
  assert.equal(await page.evaluate(() => client.call("double", 2)), 4);
});

claim("what_is_sent_offline_arrives_once_and_in_order_as_soon_as_the_page_is_online", async (stage) => {
  const { http, url, key } = await stage.fixture();
  const cutter = await stage.cutter(url);
  const page = await stage.page(http);
  await page.evaluate(async ([url, options]) => {
    globalThis.client = moorline.connect(url, options);
    await client.ready();
    globalThis.away = kit.until(client, ({ retryInMs }) => retryInMs !== undefined);
  }, [cutter.url, { ...PATIENT, serverKey: key }]);
  // Not the other way round: a page that is offline does not hear that its socket is gone.
  cutter.cut();
  await page.evaluate(() => away);
  await page.context().setOffline(true);
  await page.evaluate(() => {
    globalThis.heard = kit.heard(client, "noted", 100);
    for (let n = 0; n < 100; n++) client.notify("note", n);
    globalThis.answered = client.call("double", 21, { timeoutMs: 50_000 });
    globalThis.refused = kit.thrown(() => client.notify("note", "not now", { offline: "fail" }));
  });
  assertHelps(await page.evaluate(() => refused), "connection_lost");
  await page.context().setOffline(false);
  const { heard, answered, resumed } = await page.evaluate(async () => {
    return { heard: await heard, answered: await answered, resumed: client.session.resumed };
  });
  assert.deepEqual(heard, Array.from({ length: 100 }, (_, n) => n));
  assert.deepEqual([answered, resumed], [42, true]);
}, { tolerated: NETWORK });

claim("a_tab_that_is_looked_at_again_connects_at_once", async (stage) => {
  const { http, url, key } = await stage.fixture();
  const cutter = await stage.cutter(url);
  // Playwright keeps every page shown, so the page says it of itself. background.test.mjs has tabs that are hidden.
  const page = await stage.page(http, () => {
    let visibility = "visible";
    Object.defineProperty(document, "visibilityState", { get: () => visibility });
    globalThis.become = (state) => {
      visibility = state;
      document.dispatchEvent(new Event("visibilitychange"));
    };
  });
  await page.evaluate(async ([url, options]) => {
    globalThis.client = moorline.connect(url, options);
    await client.ready();
    become("hidden");
    globalThis.away = kit.until(client, ({ retryInMs }) => retryInMs !== undefined);
  }, [cutter.url, { ...PATIENT, serverKey: key }]);
  cutter.cut();
  const { resumed, answered } = await page.evaluate(async () => {
    await away;
    const answered = client.call("double", 1, { timeoutMs: 50_000 });
    become("visible");
    await kit.connected(client);
    return { resumed: client.session.resumed, answered: await answered };
  });
  assert.deepEqual([resumed, answered], [true, 2]);
  assert.equal(page.sockets.length, 2, "one try was enough");
});

claim("a_page_that_stood_still_goes_on_with_its_session_when_it_runs_again", async (stage) => {
  const { http, url, key } = await stage.fixture();
  const cutter = await stage.cutter(url);
  const page = await stage.page(http);
  await page.evaluate(async ([url, options]) => {
    globalThis.client = moorline.connect(url, options);
    await client.ready();
    globalThis.away = kit.failed(client, "connection_lost");
    globalThis.statuses = kit.statuses(client);
    globalThis.heard = kit.heard(client, "noted", 2);
    client.notify("note", "before");
    setInterval(() => {}, 1); // Something to stop at.
  }, [cutter.url, { ...QUICK, serverKey: key }]);
  // Chromium freezes no page of Playwright's, which are always looked at: a debugger stops it as completely.
  // background.test.mjs has one that is frozen.
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Debugger.enable");
  const paused = new Promise((resolve) => devtools.once("Debugger.paused", resolve));
  await devtools.send("Debugger.pause");
  await paused;
  cutter.cut();
  await devtools.send("Debugger.resume");
  await devtools.send("Debugger.disable");
  const seen = await page.evaluate(async () => {
    document.dispatchEvent(new Event("resume"));
    await away;
    await kit.connected(client);
    client.notify("note", "after");
    return { heard: await heard, resumed: client.session.resumed, tries: statuses.filter(({ status }) => status === "connected").length };
  });
  assert.deepEqual(seen, { heard: ["before", "after"], resumed: true, tries: 2 });
});

claim("a_reload_says_bye_and_leaves_no_ghost_and_a_cut_keeps_the_session", async (stage) => {
  const { http, url, key } = await stage.fixture();
  const cutter = await stage.cutter(url);
  const [going, cut, staying] = [await stage.page(http), await stage.page(http), await stage.page(http)];
  const connect = (page, url, options) => page.evaluate(async ([url, options]) => {
    globalThis.client = moorline.connect(url, options);
    await client.ready();
  }, [url, options]);
  await connect(going, url, {});
  await connect(cut, cutter.url, { ...PATIENT, serverKey: key });
  await connect(staying, url, {});
  const connected = () => staying.evaluate(async () => (await client.call("whoami")).connected);
  assert.equal(await connected(), 3);
  cutter.cut();
  await going.reload();
  // The server keeps sessions for two minutes, and this is over long before.
  while ((await connected()) !== 2);
  await cut.evaluate(async () => {
    await kit.until(client, ({ retryInMs }) => retryInMs !== undefined);
    dispatchEvent(new Event("online"));
    await kit.connected(client);
    if (!client.session.resumed) throw new Error("its session was not kept");
  });
});

claim("the_servers_clock_is_known_to_half_a_round_trip", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  const { offsetMs, apart, rttMs } = await page.evaluate(async () => {
    const client = moorline.connect();
    await client.call("double", 1);
    const apart = client.serverTimeMs() - Date.now();
    return { apart, ...client.stats() };
  });
  // The same clock on both sides; the rest is how long the machine let the page wait.
  assert(Math.abs(offsetMs) < 2_000 && Math.abs(apart - offsetMs) < 1_000, JSON.stringify({ offsetMs, apart, rttMs }));
});

claim("a_stream_is_read_in_order_over_cuts_and_ends_its_handler_when_it_is_left", async (stage) => {
  const { http, url, key } = await stage.fixture();
  const cutter = await stage.cutter(url);
  const page = await stage.page(http);
  await page.exposeFunction("cut", () => cutter.cut());
  const seen = await page.evaluate(async ([url, options]) => {
    const client = moorline.connect(url, options);
    const read = async (stream, each = () => {}) => {
      const items = [];
      try {
        for await (const item of stream) {
          items.push(item);
          if ((await each(item)) === "leave") break;
        }
        return { items };
      } catch (error) {
        return { items, code: error.code };
      }
    };
    const whole = await read(client.stream("ticks", 200), (n) => n % 60 === 59 && cut());
    const dropped = kit.heard(client, "ticks.dropped", 3);
    const left = await read(client.stream("ticks", null, { buffer: 8 }), (n) => n === 20 && "leave");
    const failed = await read(client.stream("ticks", null));
    const missing = await read(client.stream("nothing_of_the_kind", null));
    const [none] = [await read(client.stream("ticks", 0))];
    const keyed = () => client.call("once", 1, { idempotencyKey: "the first" });
    const once = [await keyed(), await keyed()];
    return { whole, left, failed, missing, none, once, dropped: await dropped, resumed: client.session.resumed };
  }, [cutter.url, { ...QUICK, serverKey: key }]);
  const upTo = (to) => Array.from({ length: to }, (_, n) => n);
  assert.deepEqual(seen.whole, { items: upTo(200) });
  assert.deepEqual(seen.left, { items: upTo(21) });
  assert.deepEqual(seen.failed, { items: upTo(500), code: "enough" });
  assert.deepEqual(seen.missing, { items: [], code: "not_found" });
  assert.deepEqual(seen.none, { items: [] });
  assert.deepEqual(seen.once, [1, 1], "one run, one answer");
  assert(seen.dropped.every((n) => n <= 501), String(seen.dropped));
  assert.equal(seen.resumed, true);
});

claim("a_pages_generator_is_read_by_the_server_over_cuts_and_ends_when_the_server_leaves_it", async (stage) => {
  const { http, url, key } = await stage.fixture();
  const cutter = await stage.cutter(url);
  const page = await stage.page(http);
  await page.exposeFunction("cut", () => cutter.cut());
  const seen = await page.evaluate(async ([url, options]) => {
    const client = moorline.connect(url, options);
    let ahead = 0;
    const left = new Promise((resolve) => {
      client.handle("count", async function* ({ to, cutAt, }) {
        try {
          for (let n = 0; n < to; n++) {
            if (n === cutAt) cut();
            ahead = n;
            yield n;
          }
        } finally {
          if (to === 1e9) resolve("left");
        }
      });
    });
    const ask = (data, take) => client.call("read", { name: "count", data, take }, { timeoutMs: 50_000 });
    const whole = await ask({ to: 300, cutAt: 150 });
    const some = await ask({ to: 1e9 }, 20);
    return { whole, some, left: await left, ahead, missing: await client.call("read", { name: "nobody", data: 1 }) };
  }, [cutter.url, { ...QUICK, serverKey: key }]);
  const upTo = (to) => Array.from({ length: to }, (_, n) => n);
  assert.deepEqual(seen.whole, { items: upTo(300), ended: true });
  assert.deepEqual(seen.some, { items: upTo(20) });
  assert.equal(seen.left, "left");
  assert(seen.ahead <= 20 + 2 * 16, `the page was at ${seen.ahead}`);
  assert.deepEqual(seen.missing, { items: [], failed: "not_found" });
});
