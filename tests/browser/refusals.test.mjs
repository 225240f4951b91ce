// Servers that are not there, are others, or will not have this page: each is named, with a way out.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";

import { assertHelps, claim, NETWORK } from "./support/claim.mjs";
import { keyOf } from "./support/processes.mjs";
import { answer } from "./support/site.mjs";

const QUICK = { reconnectBaseMs: 20, reconnectMaxMs: 50 };

/** A port that was free a moment ago. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** A page with the package in it, from a server that has nothing to do with Moorline. */
async function visitor(stage, { host = "127.0.0.1", routes = {} } = {}) {
  const { vite } = await stage.project();
  const site = await stage.site({ "/": vite, ...routes });
  return stage.page(`http://${host}:${site.port}/`);
}

/** Connects, as `client` and the only one, until there is an error or a connection. */
function attempt(page, url, options) {
  return page.evaluate(async ([url, options]) => {
    await globalThis.client?.close();
    globalThis.client = moorline.connect(url, options);
    return kit.until(client, ({ status, error }) => status === "connected" || error !== undefined);
  }, [url, { ...QUICK, ...options }]);
}

function assertTriesOn({ status, error }, code) {
  assertHelps(error, code);
  assert.equal(status, "connecting");
  assert.equal(error.name, "ConnectError");
  assert.equal(error.retryable, true);
}

claim("a_server_that_is_down_at_the_start_is_waited_for", async (stage) => {
  const port = await freePort();
  const page = await visitor(stage);
  assertTriesOn(await attempt(page, `ws://127.0.0.1:${port}/moorline`), "server_unreachable");
  const { error } = await page.evaluate(() => kit.outcome(client.ready({ timeoutMs: 50 })));
  assertHelps(error, "timeout");
  assert.equal(error.cause.code, "server_unreachable");
  await stage.fixture({ port });
  const session = await page.evaluate(() => client.ready());
  assert.equal(session.encryption.trust, "discovered");
}, { tolerated: NETWORK });

claim("a_server_of_another_kind_is_not_moorline", async (stage) => {
  const others = {
    "a page": (_, response) => answer(response, 200, "text/html", "<h1>Welcome</h1>"),
    "nothing there": (_, response) => answer(response, 404, "text/plain", "not here"),
    "other JSON": (_, response) => answer(response, 200, "application/json", '{"keys":[],"hello":1}'),
  };
  for (const other of Object.values(others)) {
    const page = await visitor(stage, { routes: { "/moorline": other } });
    for (const serverKey of [undefined, await keyOf(1)]) {
      assertTriesOn(await attempt(page, "/moorline", { serverKey }), "not_moorline");
    }
  }
}, { tolerated: NETWORK });

claim("a_server_of_another_kind_elsewhere_is_not_moorline_although_the_page_may_not_read_its_answer", async (stage) => {
  const page = await visitor(stage);
  const other = await stage.site({ "/": (_, response) => answer(response, 404, "text/plain", "not here") });
  assertTriesOn(await attempt(page, `ws://127.0.0.1:${other.port}/moorline`), "not_moorline");
}, { tolerated: NETWORK });

claim("over_an_insecure_way_a_key_is_not_taken_as_found", async (stage) => {
  const port = await freePort();
  const url = `ws://app.test:${port}/moorline`;
  const { key } = await stage.fixture({ port, publicUrl: url });
  const open = () => stage.page(`http://app.test:${port}/`);

  let page = await open();
  const refused = await attempt(page);
  assertHelps(refused.error, "server_key_required");
  assert.equal(refused.status, "closed");
  assert.match(refused.error.remedy, /wss:.*serverKey/);
  assert.equal(page.sockets.length, 0);
  assert.equal(page.requested.filter((url) => url.endsWith("/moorline")).length, 0, "it does not even ask");

  for (const [options, trust] of [[{ serverKey: key }, "pinned"], [{ allowInsecureDiscovery: true }, "discovered"]]) {
    page = await open();
    await attempt(page, undefined, options);
    const { encryption, url: dialled } = await page.evaluate(() => client.ready());
    assert.deepEqual(encryption, { suite: "aes-256-gcm", trust, serverKey: key });
    assert.equal(dialled, url);
  }
});

claim("a_server_with_another_key_than_the_pinned_one_is_server_key_changed", async (stage) => {
  const pinned = await keyOf(2);
  const { http, key } = await stage.fixture({ keySeed: 1 });
  assert.notEqual(key, pinned);
  const page = await stage.page(http);
  assertTriesOn(await attempt(page, "/moorline", { serverKey: pinned }), "server_key_changed");
  assert.match((await page.evaluate(() => kit.status(client.status))).error.remedy, /somebody may be in between/);
  assert.equal(await page.evaluate(() => client.session), undefined, "nothing was said to it");
  // With the new key beside the old one it comes in.
  await attempt(page, "/moorline", { serverKey: [pinned, key] });
  assert.equal((await page.evaluate(() => client.ready())).encryption.serverKey, key);
}, { tolerated: NETWORK });

claim("a_client_that_discovered_the_key_follows_a_server_that_changes_it", async (stage) => {
  const first = await stage.fixture({ keySeed: 1 });
  const page = await stage.page(first.http);
  assert.equal((await attempt(page)).status, "connected");
  await first.stop("SIGKILL");
  await page.evaluate(() => kit.failed(client, "server_unreachable"));
  const second = await stage.fixture({ port: first.port, keySeed: 2 });
  await page.evaluate(() => kit.connected(client));
  const { encryption } = await page.evaluate(() => client.session);
  assert.deepEqual(encryption, { suite: "aes-256-gcm", trust: "discovered", serverKey: second.key });
}, { tolerated: NETWORK });

claim("a_page_of_a_foreign_origin_is_origin_refused_until_it_is_allowed", async (stage) => {
  const { vite } = await stage.project();
  const site = await stage.site({ "/": vite });
  const origin = `http://other.test:${site.port}`;
  for (const serverKey of [undefined, await keyOf(1)]) {
    const { url } = await stage.fixture();
    const page = await stage.page(origin);
    assertTriesOn(await attempt(page, url, { serverKey }), "origin_refused");
    assert.match((await page.evaluate(() => kit.status(client.status))).error.remedy, /allowed_origins/);
  }
  const { url } = await stage.fixture({ allowedOrigin: origin });
  assert.equal((await attempt(await stage.page(origin), url)).status, "connected");
}, { tolerated: NETWORK });

claim("a_page_on_another_port_is_refused_before_a_byte_of_the_handshake_until_it_is_allowed", async (stage) => {
  const { vite } = await stage.project();
  const site = await stage.site({ "/": vite });
  const origin = `http://127.0.0.1:${site.port}`;
  for (const [allowedOrigin, status, opens] of [[[], 403, false], [[origin], 101, true]]) {
    const line = await tapped(stage);
    const { key, port } = await stage.fixture({ publicUrl: line.url, allowedOrigin });
    line.to(port);
    const page = await stage.page(origin);
    const { error } = await attempt(page, line.url, { serverKey: key });
    if (!opens) assertHelps(error, "origin_refused");
    // The client tries again and again; the newest may not have been answered yet.
    const upgrades = line.lines.filter(({ up, down }) => /^Upgrade: websocket\r$/im.test(up) && down !== "");
    assert(upgrades.length >= 1);
    for (const { up, down } of upgrades) {
      assert.match(up, new RegExp(`^Origin: ${origin}\r$`, "m"));
      assert.match(down, new RegExp(`^HTTP/1.1 ${status} `));
      // Behind the head of the request there is what the client says: where it may connect, HS1 and what follows.
      assert.equal(up.split("\r\n\r\n").slice(1).join("").length > 0, opens);
    }
  }
}, { tolerated: NETWORK });

/** A line to a server that is told later, with every byte that has passed on each of its connections. */
async function tapped(stage) {
  const lines = [];
  let port;
  const server = createServer((near) => {
    const line = { up: "", down: "" };
    lines.push(line);
    const far = connect(port, "127.0.0.1");
    near.on("data", (bytes) => (line.up += bytes.toString("latin1")));
    far.on("data", (bytes) => (line.down += bytes.toString("latin1")));
    for (const [one, other] of [[near, far], [far, near]]) one.on("error", () => other.destroy()).pipe(other);
    stage.onEnd(() => [near, far].forEach((socket) => socket.destroy()));
  }).listen(0, "127.0.0.1");
  stage.onEnd(() => server.close());
  await once(server, "listening");
  return { lines, url: `ws://127.0.0.1:${server.address().port}/moorline`, to: (later) => (port = later) };
}

claim("a_name_that_the_server_does_not_answer_to_is_host_refused", async (stage) => {
  const { port, key } = await stage.fixture();
  const page = await visitor(stage);
  assertTriesOn(await attempt(page, `ws://app.test:${port}/moorline`, { serverKey: key }), "host_refused");
}, { tolerated: NETWORK });

claim("a_proxy_that_hides_the_host_is_no_riddle_to_a_page_that_is_refused", async (stage) => {
  const { url } = await stage.fixture();
  const page = await visitor(stage, { host: "other.test", routes: { "/moorline": proxyTo(url) } });
  assertTriesOn(await attempt(page, "/moorline", { serverKey: await keyOf(1) }), "origin_refused");
}, { tolerated: NETWORK });

/** Passes on plain requests, under the name of the server behind. A socket it refuses as the server would. */
function proxyTo(url) {
  return async (request, response) => {
    const { search } = new URL(request.url, "http://proxy");
    const { origin } = request.headers;
    const answered = await fetch(url.replace(/^ws/, "http") + search, { headers: origin ? { origin } : {} });
    answer(response, answered.status, "application/json", await answered.text());
  };
}

claim("encryption_on_one_side_alone_is_encryption_mismatch", async (stage) => {
  for (const [server, options] of [["off", {}], ["on", { encryption: "off" }]]) {
    const { http } = await stage.fixture({ encryption: server });
    const page = await stage.page(http);
    assertTriesOn(await attempt(page, "/moorline", options), "encryption_mismatch");
  }
}, { tolerated: NETWORK });

claim("a_server_that_accepts_and_then_says_nothing_is_connect_timeout", async (stage) => {
  const silent = createServer(() => {}).listen(0, "127.0.0.1");
  await once(silent, "listening");
  try {
    const page = await visitor(stage);
    const url = `ws://127.0.0.1:${silent.address().port}/moorline`;
    const serverKey = await keyOf(1);
    assertTriesOn(await attempt(page, url, { serverKey, connectTimeoutMs: 100 }), "connect_timeout");
    await page.evaluate(() => client.close());
  } finally {
    silent.close();
  }
}, { tolerated: NETWORK });

claim("what_connect_is_given_wrongly_it_throws_at_once_with_the_nearest_right_name", async (stage) => {
  const page = await visitor(stage);
  const wrong = [
    ["/moorline", { callTimeout: 5 }, "invalid_option", /callTimeoutMs/],
    ["/moorline", { serverkey: "x" }, "invalid_option", /`serverKey`/],
    ["/moorline", { encryption: "aes" }, "invalid_option", /aes-256-gcm/],
    ["/moorline", { connectTimeoutMs: 0 }, "invalid_option", /milliseconds/],
    ["/moorline", { serverKey: "hello" }, "invalid_server_key", /mlpub_/],
    ["/moorline", { serverKey: `mlkey_${"x".repeat(48)}` }, "invalid_server_key", /secret/],
    ["localhost:2667", {}, "invalid_url", /ws:\/\/localhost:2667/],
    ["ftp://localhost/", {}, "invalid_url", /ws/],
    ["ws://ann:secret@localhost/", {}, "invalid_url", /./],
  ];
  for (const [url, options, code, remedy] of wrong) {
    const error = await page.evaluate(([url, options]) => kit.thrown(() => moorline.connect(url, options)), [url, options]);
    assertHelps(error, code);
    assert.match(error.remedy, remedy);
  }
  assert.deepEqual(page.sockets, []);
});

claim("a_key_that_was_cut_short_and_combinations_that_protect_nothing_close_the_client", async (stage) => {
  const page = await visitor(stage);
  const key = await keyOf(1);
  const wrong = [
    [{ serverKey: key.slice(0, -1) }, "invalid_server_key"],
    [{ serverKey: `${key.slice(0, 20)}${key[20] === "A" ? "B" : "A"}${key.slice(21)}` }, "invalid_server_key"],
    [{ serverKey: key, encryption: "off" }, "invalid_option"],
  ];
  for (const [options, code] of wrong) {
    const { status, error } = await attempt(page, "ws://localhost:1/moorline", options);
    assert.equal(status, "closed");
    assertHelps(error, code);
  }
  assert.deepEqual(page.sockets, []);
});
