// Who a page is, by every way in, and what keeps others out.
import assert from "node:assert/strict";
import { once } from "node:events";
import { get } from "node:http";

import { assertHelps, claim, NETWORK } from "./support/claim.mjs";
import { finished } from "./support/processes.mjs";
import { SECRET, token } from "./support/token.mjs";

const QUICK = { reconnectBaseMs: 5, reconnectMaxMs: 20 };

/** A page of a server that believes tokens, with `issue` in it: what a sign-in service of the application would be. */
async function withTokens(stage, options) {
  const fixture = await stage.fixture({ jwtSecret: SECRET, ...options });
  const page = await stage.page(fixture.http);
  await page.exposeFunction("issue", token);
  return { ...fixture, page };
}

/** How a client of these options fares: who it is, or why it is not let in. */
function attempt(page, url, options) {
  return page.evaluate(async ([url, options]) => {
    const client = moorline.connect(url, options);
    try {
      return await kit.outcome(client.ready({ timeoutMs: 20_000 }).then(() => client.identity));
    } finally {
      await client.close();
    }
  }, [url, { ...QUICK, reconnect: false, ...options }]);
}

function assertDenied({ error }, code) {
  assertHelps(error, code);
  assert.equal(error.name, "AuthError");
}

/** The answer to a request for a WebSocket, as a program sees it that is no browser. */
async function upgrade(url, headers = {}) {
  const request = get(url.replace(/^ws/, "http"), {
    headers: {
      connection: "upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      ...headers,
    },
  });
  const [response, socket] = await Promise.race([once(request, "response"), once(request, "upgrade")]);
  socket?.destroy();
  let body = "";
  if (!socket) for await (const text of response.setEncoding("utf8")) body += text;
  return { status: response.statusCode, body };
}

claim("a_token_provider_is_asked_again_before_the_token_expires_and_the_connection_goes_on", async (stage) => {
  const { page } = await withTokens(stage);
  const seen = await page.evaluate(async () => {
    const asked = [];
    const client = moorline.connect("/moorline", {
      token: async ({ reason, attempt, clientKey, signal }) => {
        asked.push({ reason, attempt, clientKey, isSignal: signal instanceof AbortSignal });
        return issue({ sub: "ann", role: "admin", meta: { level: asked.length } }, { lastsS: 3 });
      },
    });
    const statuses = kit.events(client, "status");
    const first = (await client.ready()).id;
    const renewed = new Promise((resolve) => client.on("identity", () => client.identity.meta.level === 3 && resolve()));
    await renewed;
    const { identity } = client;
    const answer = await client.call("who");
    const went = statuses.map(({ status }) => status);
    const isSame = client.session.id === first && !client.session.resumed;
    await client.close();
    return { asked: asked.slice(0, 3), identity, answer, went, isSame };
  });
  const { clientKey } = seen.asked[0];
  assert.match(clientKey, /^[\w-]{43}$/);
  const asked = (reason, attempt) => ({ reason, attempt, clientKey, isSignal: true });
  assert.deepEqual(seen.asked, [asked("connect", 1), asked("expiring", 0), asked("expiring", 0)]);
  const { expiresAtMs, ...identity } = seen.identity;
  assert.deepEqual(identity, {
    subject: "ann", tenant: "default", role: "admin", scopes: undefined, meta: { level: 3 }, data: undefined,
  });
  assert(Math.abs(expiresAtMs - Date.now()) < 10_000);
  assert.deepEqual(seen.answer, { subject: "ann", role: "admin" });
  assert.deepEqual(seen.went, ["connecting", "connected"]);
  assert(seen.isSame, "it never was another connection");
  assert.equal(page.sockets.length, 1);
});

claim("a_token_bound_to_a_clients_key_is_of_use_to_that_client_alone", async (stage) => {
  const { page } = await withTokens(stage);
  const { stolen, owner, thief } = await page.evaluate(async () => {
    let stolen;
    const token = async ({ clientKey }) => (stolen = await issue({ sub: "ann", cnf: { mlk: clientKey } }));
    const client = moorline.connect("/moorline", { token });
    const owner = await client.call("who");
    await client.close();
    const other = moorline.connect("/moorline", { token: stolen });
    return { stolen, owner, thief: await kit.outcome(other.ready()) };
  });
  assert.equal(owner.subject, "ann");
  assertDenied(thief, "unauthorized");
  // It is the binding that keeps the thief out: the same without it is a token like any other.
  const { cnf, ...claims } = JSON.parse(Buffer.from(stolen.split(".")[1], "base64url"));
  assert(cnf.mlk);
  assert.equal((await attempt(page, "/moorline", { token: token(claims) })).value.subject, "ann");
});

claim("an_expired_token_is_replaced_by_a_fresh_one_and_the_session_goes_on", async (stage) => {
  const { page } = await withTokens(stage);
  const seen = await page.evaluate(async (options) => {
    const reasons = [];
    const short = await issue({ sub: "ann" }, { lastsS: 3 });
    const client = moorline.connect("/moorline", {
      ...options,
      // When the second is asked for early, there is only the same again.
      token: ({ reason }) => (reasons.push(reason), reasons.length < 3 ? short : issue({ sub: "ann" })),
    });
    const { id } = await client.ready();
    const { error } = await kit.failed(client, "token_expired");
    client.notify("note", "said while away");
    const [noted] = await kit.heard(client, "noted");
    const { session } = client;
    await client.close();
    return { reasons: reasons.slice(0, 3), error, noted, isSame: session.id === id, resumed: session.resumed };
  }, QUICK);
  assert.deepEqual(seen.reasons, ["connect", "expiring", "expired"]);
  assertDenied(seen, "token_expired");
  assert.deepEqual([seen.noted, seen.isSame, seen.resumed], ["said while away", true, true]);
}, { tolerated: NETWORK });

claim("regression_whose_token_is_over_shows_another_and_goes_on_with_the_session", async (stage) => {
  const { page } = await withTokens(stage);
  const seen = await page.evaluate(async (options) => {
    const client = moorline.connect("/moorline", { ...options, token: await issue({ sub: "ann" }, { lastsS: 2 }) });
    const { id } = await client.ready();
    await kit.failed(client, "token_expired");
    const { subject } = await client.authenticate({ token: await issue({ sub: "ann" }) });
    const { session } = await client.call("who").then(() => client);
    await client.close();
    return { subject, isSame: session.id === id, resumed: session.resumed };
  }, QUICK);
  assert.deepEqual(seen, { subject: "ann", isSame: true, resumed: true });
}, { tolerated: NETWORK });

claim("regression_a_token_shown_by_itself_is_followed_by_the_providers_without_a_drop", async (stage) => {
  const { page } = await withTokens(stage);
  const seen = await page.evaluate(async () => {
    const reasons = [];
    const token = ({ reason }) => (reasons.push(reason), issue({ sub: "ann", role: "viewer" }));
    const client = moorline.connect("/moorline", { token });
    await client.ready();
    const { role } = await client.authenticate({ token: await issue({ sub: "ann", role: "admin" }, { lastsS: 3 }) });
    const after = await new Promise((resolve) => client.on("identity", (identity) => resolve(identity.role)));
    await client.close();
    return { reasons, role, after };
  });
  assert.deepEqual(seen, { reasons: ["connect", "expiring"], role: "admin", after: "viewer" });
  assert.equal(page.sockets.length, 1);
});

claim("without_a_token_or_with_a_wrong_one_a_page_is_told_so_and_no_more", async (stage) => {
  const { page } = await withTokens(stage);
  const missing = await attempt(page, "/moorline", {});
  assertDenied(missing, "token_missing");
  assert.match(missing.error.remedy, /option token/);
  const wrong = [token({ sub: "ann" }, { secret: "another secret of thirty-two bytes" }), token({}), "no.token"];
  for (const refused of wrong) {
    const denied = await attempt(page, "/moorline", { token: refused });
    assertDenied(denied, "unauthorized");
    assert.match(denied.error.ref, /^\w+$/, "the log has the reason under it");
  }
});

claim("what_an_auth_handler_says_reaches_the_page_with_its_own_code_and_words", async (stage) => {
  const { http, url } = await stage.fixture({ auth: "doorman" });
  const page = await stage.page(http);
  const refused = await attempt(page, url, { auth: "" });
  assertDenied(refused, "name_required");
  assert.equal(refused.error.message, "Tell us your name first");
  assert.equal(refused.error.remedy, "Tell us your name first", "the application's words are what a person can act on");
  assert.equal(refused.error.retryable, false);
  const { value } = await attempt(page, url, { auth: "ann" });
  assert.deepEqual([value.subject, value.data], ["ann", { welcome: "ann" }]);
});

claim("authenticate_makes_somebody_of_a_guest_on_the_open_connection", async (stage) => {
  const { page } = await withTokens(stage, { guests: "on", auth: "doorman" });
  const seen = await page.evaluate(async () => {
    const client = moorline.connect("/moorline");
    const { id } = await client.ready();
    const told = kit.events(client, "identity");
    const guest = { is: client.identity.subject, lobby: await client.call("lobby"), who: await kit.outcome(client.call("who")) };
    const refused = await kit.outcome(client.authenticate({ auth: "" }));
    const still = client.identity.subject;
    const became = (await client.authenticate({ token: await issue({ sub: "ann", role: "admin" }) })).subject;
    const who = await client.call("who");
    await client.authenticate({ auth: "bob" });
    const isSame = client.session.id === id;
    return { guest, refused, still, became, who, told: told.map(({ subject }) => subject), isSame };
  });
  assert.deepEqual([seen.guest.is, seen.guest.lobby], ["anonymous", "welcome"]);
  assertHelps(seen.guest.who.error, "forbidden");
  assertDenied(seen.refused, "name_required");
  assert.equal(seen.still, "anonymous");
  assert.deepEqual([seen.became, seen.who], ["ann", { subject: "ann", role: "admin" }]);
  assert.deepEqual(seen.told, ["ann", "bob"]);
  assert(seen.isSame);
  assert.equal(page.sockets.length, 1);
});

claim("who_has_the_shared_key_comes_in_and_whoever_has_another_is_pointed_to_it", async (stage) => {
  const [key, other] = [await finished("moorline", ["key", "new"]), await finished("moorline", ["key", "new"])];
  const { http, url, key: serverKey } = await stage.fixture({ sharedKey: key });
  const page = await stage.page(http);
  const seen = await page.evaluate(async (sharedKey) => {
    const client = moorline.connect("/moorline", { sharedKey });
    const who = await client.call("who");
    return { who, trust: client.session.encryption.trust };
  }, key);
  assert.deepEqual(seen, { who: { subject: "anonymous", role: "service" }, trust: "shared_key" });
  for (const options of [{ sharedKey: other }, { sharedKey: other, serverKey }, {}]) {
    const { error } = await attempt(page, url, options);
    assertHelps(error, "handshake_failed");
    assert.match(error.remedy, /sharedKey/);
  }
  const mixedUp = await page.evaluate((key) => kit.thrown(() => moorline.connect("/moorline", { sharedKey: key })), serverKey);
  assertHelps(mixedUp, "invalid_shared_key");
  assert.match(`${mixedUp.message} ${mixedUp.remedy}`, /serverKey/);
}, { tolerated: NETWORK });

claim("in_node_a_provider_signs_in_by_a_token_of_its_own_client", async (stage) => {
  const { withWs } = await stage.project();
  const { url } = await stage.fixture({ jwtSecret: SECRET });
  const node = stage.node(withWs, `
    import { createInterface } from "node:readline";
    import { connect } from "moorline";
    const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    const say = (value) => console.log(JSON.stringify(value));
    const client = connect("${url}", {
      async token({ clientKey }) {
        say({ clientKey });
        return JSON.parse((await lines.next()).value);
      },
    });
    say({ who: await client.call("who"), scopes: client.identity.scopes });
    const denied = await client.authenticate({ token: "no.token" }).catch(({ name, code }) => ({ name, code }));
    say({ denied, still: await client.call("who") });
  `);
  const { clientKey } = await node.next();
  node.send(token({ sub: "robot", role: "service", scope: "call:who", cnf: { mlk: clientKey } }));
  const who = { subject: "robot", role: "service" };
  assert.deepEqual(await node.next(), { who, scopes: ["call:who"] });
  assert.deepEqual(await node.next(), { denied: { name: "AuthError", code: "unauthorized" }, still: who });
});

claim("a_token_in_a_url_is_refused_by_the_sdk_and_by_the_server_which_say_why", async (stage) => {
  const { page, url } = await withTokens(stage);
  const thrown = await page.evaluate(() => kit.thrown(() => moorline.connect("/moorline?token=x.y.z")));
  assertHelps(thrown, "invalid_url");
  assert.match(`${thrown.message} ${thrown.remedy}`, /logs.*option token/);
  assert.equal(page.sockets.length, 0);
  const { status, body } = await upgrade(`${url}?token=${token({ sub: "ann" })}`, { "sec-websocket-protocol": "moorline.v1" });
  assert.equal(status, 400);
  assert.match(body, /no query.*logs/);
});

claim("a_page_of_another_site_is_refused_before_its_token_or_anything_else_is_sent", async (stage) => {
  const { url, key } = await withTokens(stage);
  const { vite } = await stage.project();
  const site = await stage.site({ "/": vite });
  const page = await stage.page(`http://other.test:${site.port}/`);
  let frames = 0;
  page.on("websocket", (socket) => {
    socket.on("framesent", () => frames++);
    socket.on("framereceived", () => frames++);
  });
  const { error } = await attempt(page, url, { serverKey: key, token: token({ sub: "ann" }) });
  assertHelps(error, "origin_refused");
  assert.deepEqual([page.sockets.length, frames], [1, 0]);
  const origin = `http://other.test:${site.port}`;
  assert.equal((await upgrade(url, { origin, "sec-websocket-protocol": "moorline.v1" })).status, 403);
}, { tolerated: NETWORK });

claim("a_name_that_was_made_to_point_here_gets_neither_page_nor_socket_of_an_open_server", async (stage) => {
  const { port } = await stage.fixture();
  const page = await stage.page();
  const answered = await page.goto(`http://rebound.test:${port}/`);
  assert.equal(answered.status(), 421);
  assert.doesNotMatch(await answered.text(), /<script/);
  const host = `rebound.test:${port}`;
  // The attack: a page that came from elsewhere under this very name, whose origin is therefore the host's own.
  const headers = { host, origin: `http://${host}`, "sec-websocket-protocol": "moorline.v1" };
  assert.equal((await upgrade(`ws://127.0.0.1:${port}/moorline`, headers)).status, 421);
}, { tolerated: NETWORK });
