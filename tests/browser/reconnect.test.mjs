// Losses: the same client, its handlers and its listeners live on.
import assert from "node:assert/strict";

import { assertHelps, claim, NETWORK } from "./support/claim.mjs";

const QUICK = { reconnectBaseMs: 20, reconnectMaxMs: 50 };

claim("a_killed_server_is_found_again_by_the_same_client_with_its_handlers_and_listeners", async (stage) => {
  const first = await stage.fixture();
  const page = await stage.page(first.http);
  const before = await page.evaluate(async (QUICK) => {
    globalThis.client = moorline.connect("/moorline", QUICK);
    globalThis.heard = [];
    client.listen("noted", (value) => heard.push(value));
    client.handle("name", () => "ann");
    await client.ready();
    globalThis.seen = kit.statuses(client);
    globalThis.resets = kit.events(client, "reset");
    client.notify("note", "before");
    globalThis.started = kit.heard(client, "hang.started");
    globalThis.inFlight = kit.outcome(client.call("hang", 1));
    await started;
    return { id: client.session.id, asked: await client.call("ask", { name: "name" }) };
  }, QUICK);
  assert.deepEqual(before.asked, { ok: "ann" });

  await first.stop("SIGKILL");
  const down = await page.evaluate(() => kit.failed(client, "server_unreachable"));
  assert.equal(down.status, "connecting");

  await stage.fixture({ port: first.port });
  const after = await page.evaluate(async () => {
    await kit.connected(client);
    client.notify("note", "after");
    const asked = await client.call("ask", { name: "name" });
    return { id: client.session.id, resumed: client.session.resumed, asked, heard, seen, resets, ...(await inFlight) };
  });
  assertHelps(after.error, "unknown");
  assert.equal(after.error.retryable, false, "it may have run");
  assert.deepEqual(after.resets.map(({ reason }) => reason), ["restart"]);
  assert.deepEqual(after.asked, { ok: "ann" });
  assert.deepEqual(after.heard, ["before", "after"]);
  assert.notEqual(after.id, before.id, "another server, another session");
  assert.equal(after.resumed, false);
  assertTells(after.seen);
}, { tolerated: NETWORK });

/** From connected to connected: the cause, growing attempts, and how long each wait is. */
function assertTells([before, lost, ...rest]) {
  assert.equal(before.status, "connected");
  assert.equal(lost.status, "connecting");
  assertHelps(lost.error, "connection_lost");
  const end = rest.pop();
  assert.deepEqual([end.status, end.error, end.retryInMs], ["connected", undefined, undefined]);
  const between = [lost, ...rest];
  assert.equal(between[0].attempt, 1);
  for (const [at, { status, attempt, error, retryInMs }] of between.entries()) {
    assert.equal(status, "connecting");
    assert(attempt >= (between[at - 1]?.attempt ?? 1), "attempts never go back");
    assert(error, "why the last try failed is told until one succeeds");
    if (retryInMs !== undefined) assert(retryInMs >= 0 && retryInMs <= 50, `${retryInMs} is within the bounds`);
  }
  const waits = between.filter(({ retryInMs }) => retryInMs !== undefined);
  const tries = between.filter(({ retryInMs }) => retryInMs === undefined);
  assert(waits.length > 0 && tries.length > 0, "both waits and tries are told");
  for (const { error } of waits.slice(1)) assertHelps(error, "server_unreachable");
}

claim("a_server_that_stops_politely_says_going_away", async (stage) => {
  const fixture = await stage.fixture();
  const page = await stage.page(fixture.http);
  await page.evaluate(async (QUICK) => {
    globalThis.client = moorline.connect("/moorline", QUICK);
    await client.ready();
    globalThis.goingAway = kit.failed(client, "going_away");
    globalThis.goaways = kit.events(client, "goaway");
  }, QUICK);
  const { code } = await fixture.stop();
  assert.equal(code, 0);
  const { status, error } = await page.evaluate(() => goingAway);
  assert.equal(status, "connecting");
  assertHelps(error, "going_away");
  assert.equal(error.retryable, true);
  assert(error.ref, "the log line's reference came with it, so it was sealed");
  const goaways = await page.evaluate(() => goaways);
  assert.deepEqual(goaways.map(({ code, message }) => [code, message]), [["going_away", error.message]]);
}, { tolerated: NETWORK });

claim("a_line_that_breaks_without_a_word_is_connection_lost_and_calls_under_way_go_on", async (stage) => {
  const { http, url, key } = await stage.fixture();
  const recorder = await stage.recorder(url);
  const page = await stage.page(http);
  await page.evaluate(async ([url, options]) => {
    globalThis.client = moorline.connect(url, options);
    await client.ready();
    globalThis.lost = kit.failed(client, "connection_lost");
    const started = kit.heard(client, "hang.started", 3);
    globalThis.abort = new AbortController();
    globalThis.outcomes = Promise.allSettled([1, 2, 3].map((n) => client.call("hang", n, { signal: abort.signal })));
    client.handle("slow", () => new Promise((resolve) => (globalThis.answer = resolve)));
    globalThis.asked = client.call("ask", { name: "slow" });
    await started;
  }, [recorder.url, { ...QUICK, serverKey: key }]);
  recorder.cut();
  assertHelps((await page.evaluate(() => lost)).error, "connection_lost");
  const { asked, doubled, dropped, statuses, resumed } = await page.evaluate(async () => {
    const doubled = await client.call("double", 3);
    answer("late");
    const asked = await globalThis.asked;
    const dropped = kit.heard(client, "hang.dropped", 3);
    abort.abort();
    const statuses = (await outcomes).map(({ status }) => status);
    return { asked, doubled, dropped: (await dropped).sort(), statuses, resumed: client.session.resumed };
  });
  assert.deepEqual({ asked, doubled, resumed }, { asked: { ok: "late" }, doubled: 6, resumed: true });
  assert.deepEqual(dropped, [1, 2, 3], "their handlers ran until they were cancelled");
  assert.deepEqual(statuses, ["rejected", "rejected", "rejected"]);
});

claim("a_call_made_while_there_is_no_connection_is_sent_when_there_is_one", async (stage) => {
  const first = await stage.fixture();
  const page = await stage.page(first.http);
  await page.evaluate(async (QUICK) => {
    globalThis.client = moorline.connect("/moorline", QUICK);
    await client.ready();
  }, QUICK);
  await first.stop("SIGKILL");
  await page.evaluate(async () => {
    await kit.failed(client, "server_unreachable");
    globalThis.patient = client.call("double", 5);
    globalThis.impatient = await kit.outcome(client.call("double", 6, { timeoutMs: 30 }));
  });
  const { error } = await page.evaluate(() => impatient);
  assertHelps(error, "timeout");
  assert.equal(error.cause?.code, "server_unreachable", "it says what it waited for");
  await stage.fixture({ port: first.port });
  assert.equal(await page.evaluate(() => patient), 10);
}, { tolerated: NETWORK });

claim("a_page_that_comes_online_again_connects_at_once_however_long_the_wait", async (stage) => {
  const first = await stage.fixture();
  const page = await stage.page(first.http);
  const HOUR = 3_600_000;
  await page.evaluate(async (HOUR) => {
    globalThis.client = moorline.connect("/moorline", { reconnectBaseMs: HOUR, reconnectMaxMs: HOUR });
    await client.ready();
  }, HOUR);
  // Not the other way round: a page that is offline does not always hear that its socket is gone, and finds out after 40 s.
  await first.stop("SIGKILL");
  const waiting = await page.evaluate(() => kit.until(client, ({ retryInMs }) => retryInMs !== undefined));
  assert.equal(waiting.status, "connecting");
  await page.context().setOffline(true);
  assert.equal(await page.evaluate(() => navigator.onLine), false);
  await stage.fixture({ port: first.port });
  await page.context().setOffline(false);
  const { attempt } = await page.evaluate(() => kit.connected(client));
  assert(attempt >= 1);
  assert.equal(await page.evaluate(() => client.call("double", 2)), 4);
}, { tolerated: NETWORK });

claim("an_offline_page_stays_connecting_and_says_that_the_server_cannot_be_reached", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  await page.evaluate(() => moorline.preload());
  await page.context().setOffline(true);
  const { status, error } = await page.evaluate((QUICK) => {
    globalThis.client = moorline.connect("/moorline", QUICK);
    return kit.failed(client, "server_unreachable");
  }, QUICK);
  assert.equal(status, "connecting");
  assertHelps(error, "server_unreachable");
  await page.context().setOffline(false);
  assert.equal(await page.evaluate(() => client.call("double", 2)), 4);
}, { tolerated: NETWORK });

claim("without_reconnect_the_first_loss_closes_the_client_and_says_why", async (stage) => {
  const fixture = await stage.fixture();
  const page = await stage.page(fixture.http);
  await page.evaluate(async () => {
    globalThis.client = moorline.connect("/moorline", { reconnect: false });
    await client.ready();
    globalThis.ended = kit.until(client, ({ status }) => status === "closed");
  });
  await fixture.stop("SIGKILL");
  assertHelps((await page.evaluate(() => ended)).error, "connection_lost");
  const { error } = await page.evaluate(() => kit.outcome(client.call("double", 1)));
  assertHelps(error, "closed");
  assert.equal(error.cause.code, "connection_lost");
}, { tolerated: NETWORK });

claim("what_the_application_on_the_server_closes_stays_closed", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  const { closed } = await page.evaluate(async (QUICK) => {
    const client = moorline.connect("/moorline", QUICK);
    await client.ready();
    const closed = kit.until(client, ({ status }) => status === "closed");
    void kit.outcome(client.call("close_me", "Your game is over"));
    return { closed: await closed };
  }, QUICK);
  assertHelps(closed.error, "closed_by_server");
  assert.equal(closed.error.message, "Your game is over");
  assert.equal(closed.error.retryable, false);
  assert.equal(page.sockets.length, 1);
});
