// From import to close: what a client costs, shares and leaves behind.
import assert from "node:assert/strict";

import { assertHelps, claim } from "./support/claim.mjs";

const isWasm = (url) => url.endsWith(".wasm");
const isWasmUrl = ({ href }) => isWasm(href);
const isEndpoint = (url) => new URL(url).pathname === "/moorline";

/** Counts what WebAssembly is asked to do. */
function countInPage() {
  globalThis.counted = { compiled: 0, instantiated: 0 };
  for (const name of ["compile", "compileStreaming"]) {
    const original = WebAssembly[name];
    WebAssembly[name] = (...args) => (counted.compiled++, original(...args));
  }
  const { Instance } = WebAssembly;
  WebAssembly.Instance = class extends Instance {
    constructor(...args) {
      super(...args);
      counted.instantiated++;
    }
  };
}

/** Lets everything run that was put off for a moment: timers of 0 ms and what follows from them. */
const settle = () => new Promise((resolve) => {
  let rounds = 10;
  const next = () => (rounds-- > 0 ? setTimeout(next, 0) : resolve());
  next();
});

claim("importing_does_nothing", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http, countInPage);
  await page.evaluate(settle);
  assert.deepEqual(await page.evaluate(() => counted), { compiled: 0, instantiated: 0 });
  assert.deepEqual(page.requested.filter((url) => isWasm(url) || isEndpoint(url)), []);
  assert.deepEqual(page.sockets, []);
});

claim("closing_in_the_opening_tick_opens_no_socket_and_loads_no_wasm", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http, countInPage);
  const { status, call, ready } = await page.evaluate(async () => {
    const client = moorline.connect();
    const [call, ready] = [kit.outcome(client.call("double", 1)), kit.outcome(client.ready())];
    await client.close();
    return { status: kit.status(client.status), call: await call, ready: await ready };
  });
  assert.deepEqual([status.status, status.error], ["closed", undefined]);
  assertHelps(call.error, "closed");
  assertHelps(ready.error, "closed");
  await page.evaluate(settle);
  assert.deepEqual(page.requested.filter((url) => isWasm(url) || isEndpoint(url)), []);
  // The one that stays opens one of each, so that the counting is known to count.
  await page.evaluate(async () => {
    for (let n = 0; n < 5; n++) void moorline.connect().close();
    await moorline.connect().ready();
  });
  assert.equal(page.requested.filter(isWasm).length, 1);
  assert.equal(page.sockets.length, 1);
  assert.deepEqual(await page.evaluate(() => [counted.compiled, counted.instantiated]), [1, 1]);
});

claim("closing_while_the_wasm_loads_opens_no_socket", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route(isWasmUrl, async (route) => {
    await held;
    await route.continue();
  });
  const asked = page.waitForRequest((request) => isWasm(request.url()));
  await page.evaluate(() => void (globalThis.client = moorline.connect()));
  await asked;
  assert.equal(await page.evaluate(() => client.close().then(() => client.status.status)), "closed");
  const arrived = page.waitForResponse((response) => isWasm(response.url()));
  release();
  await arrived;
  await page.evaluate(() => moorline.preload());
  await page.evaluate(settle);
  assert.deepEqual(page.sockets, []);
});

claim("a_hundred_clients_in_one_page_share_one_wasm_and_are_each_their_own", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http, countInPage);
  const seen = await page.evaluate(async () => {
    const clients = Array.from({ length: 100 }, () => moorline.connect());
    const answers = await Promise.all(clients.map((client, n) => client.call("double", n)));
    const who = await Promise.all(clients.map((client) => client.call("whoami")));
    const sessions = clients.map(({ session }) => session.id);
    await Promise.all(clients.map((client) => client.close()));
    return { answers, sessions, who, counted };
  });
  assert.deepEqual(seen.answers, Array.from({ length: 100 }, (_, n) => 2 * n));
  assert.deepEqual(seen.who.map(({ id }) => id), seen.sessions);
  assert.equal(new Set(seen.sessions).size, 100);
  assert.deepEqual([seen.counted.compiled, seen.counted.instantiated], [1, 1]);
  assert.equal(page.requested.filter(isWasm).length, 1);
  assert.equal(page.sockets.length, 100);
});

claim("closing_settles_every_call_and_says_good_bye_to_the_server", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  const { outcomes, late, aborted, lastStats } = await page.evaluate(async () => {
    const client = moorline.connect();
    await client.ready();
    client.handle("wait", (_, { signal }) => new Promise((resolve) => {
      signal.addEventListener("abort", () => resolve((globalThis.handlerAborted = signal.reason.code)));
      globalThis.handling();
    }));
    const handling = new Promise((resolve) => (globalThis.handling = resolve));
    const started = kit.heard(client, "hang.started", 50);
    const calls = Array.from({ length: 50 }, (_, n) => kit.outcome(client.call("hang", n)));
    calls.push(kit.outcome(client.call("ask", { name: "wait" })));
    await Promise.all([started, handling]);
    // Some that have not even been sent, and one that ends in a listener's hands.
    calls.push(kit.outcome(client.call("hang", "unsent")));
    const first = client.close();
    if (client.close() !== first) throw new Error("a second close gives another promise");
    await first;
    return {
      outcomes: await Promise.all(calls),
      late: await kit.outcome(client.call("double", 1)),
      aborted: handlerAborted,
      lastStats: client.stats(),
    };
  });
  assert.equal(outcomes.length, 52);
  for (const { error } of outcomes) {
    assert(["unknown", "closed"].includes(error.code), JSON.stringify(error));
    assertHelps(error, error.code);
  }
  assertHelps(late.error, "closed");
  assert.equal(aborted, "cancelled");
  assert(lastStats.bytesSent > 0 && lastStats.bytesReceived > 0, "the counters outlive the client");
  // The server has let it go.
  const { connected } = await page.evaluate(() => moorline.connect().call("whoami"));
  assert.equal(connected, 1);
});

claim("a_client_may_be_closed_from_every_one_of_its_own_listeners", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  const ends = await page.evaluate(async () => {
    const from = {
      status: (client) => client.on("status", ({ status }) => status === "connected" && void client.close()),
      session: (client) => client.on("session", () => void client.close()),
      message: (client) => {
        client.listen("noted", () => void client.close());
        client.notify("note", 1);
      },
      handler: (client) => {
        client.handle("bye", () => void client.close());
        void kit.outcome(client.call("ask", { name: "bye" }));
      },
      reply: (client) => void client.call("double", 1).then(() => client.close()),
    };
    const ends = {};
    for (const [name, arrange] of Object.entries(from)) {
      const client = moorline.connect();
      const pending = kit.outcome(client.call("hang", name));
      const ended = kit.until(client, ({ status }) => status === "closed");
      arrange(client);
      ends[name] = [(await ended).error, (await pending).error.code];
      await client.close();
    }
    return ends;
  });
  for (const [name, [error, code]] of Object.entries(ends)) {
    assert.equal(error, undefined, name);
    assert(["unknown", "closed"].includes(code), `${name}: ${code}`);
  }
});

claim("a_page_that_goes_is_gone_for_the_server_too", async (stage) => {
  const { http } = await stage.fixture();
  const [going, staying] = [await stage.page(http), await stage.page(http)];
  for (const page of [going, staying]) {
    await page.evaluate(async () => {
      globalThis.client = moorline.connect();
      await client.ready();
    });
  }
  assert.equal((await staying.evaluate(() => client.call("whoami"))).connected, 2);
  await going.goto("about:blank");
  // Nothing tells the others, so they look until it is so.
  let connected;
  do ({ connected } = await staying.evaluate(() => client.call("whoami")));
  while (connected !== 1);
});

claim("using_closes_the_client_where_the_language_has_it", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  const status = await page.evaluate(async () => {
    const client = moorline.connect();
    await client.ready();
    await client[Symbol.asyncDispose]();
    return client.status.status;
  });
  assert.equal(status, "closed");
});

for (const suite of ["aes-256-gcm", "chacha20-poly1305"]) {
  claim(`the_session_tells_suite_${suite.replaceAll("-", "_")}_trust_and_the_servers_key`, async (stage) => {
    const { http, url, key } = await stage.fixture({ keySeed: 9 });
    const page = await stage.page(http);
    for (const [serverKey, trust] of [[undefined, "discovered"], [key, "pinned"], [` ${key} ,`, "pinned"]]) {
      const session = await page.evaluate(async (options) => {
        const client = moorline.connect("/moorline", options);
        const heard = new Promise((resolve) => client.on("session", resolve));
        const session = await client.ready();
        if (session !== client.session || session !== (await heard)) throw new Error("three sessions");
        if (!Object.isFrozen(session)) throw new Error("it can be changed");
        await client.close();
        return session;
      }, { encryption: suite, serverKey });
      assert.deepEqual(session.encryption, { suite, trust, serverKey: key });
      assert.equal(session.url, url);
      assert.match(session.id, /^\w{16,}$/);
      assert(session.limits.maxMessage > 60_000 && session.limits.maxCallsInFlight >= 1);
      assert(Math.abs(session.serverTimeMs - Date.now()) < 60_000);
      assert(session.heartbeatMs > 1000);
      assert.match(session.serverVersion, /^moorline\/\d+\.\d+/);
    }
  });
}

claim("stats_and_ping_tell_bytes_and_the_round_trip", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  const { before, after } = await page.evaluate(async () => {
    const client = moorline.connect();
    const before = client.stats();
    await client.call("echo", "x".repeat(1000));
    client.ping();
    await client.call("echo", "the pong has come before this answer");
    return { before, after: client.stats() };
  });
  assert.deepEqual(before, { bytesSent: 0, bytesReceived: 0, buffered: 0 });
  assert(after.bytesSent > 1000 && after.bytesReceived > 1000, JSON.stringify(after));
  assert(after.rttMs >= 0 && after.rttMs < 10_000, JSON.stringify(after));
  assert.equal(after.buffered, 0);
});
