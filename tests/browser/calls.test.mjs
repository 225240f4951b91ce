// Calls and notifications both ways, between a real page and a real server.
import assert from "node:assert/strict";

import { assertHelps, claim } from "./support/claim.mjs";

/** A page with a client, `client`, that is connected. */
async function connected(stage, options = {}) {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  await page.evaluate(async (options) => {
    globalThis.client = moorline.connect("/moorline", options);
    await client.ready();
  }, options);
  return page;
}

/** Nothing that happened before has harmed the connection. */
async function assertStillWell(page) {
  assert.equal(await page.evaluate(() => client.call("double", 21)), 42);
  assert.equal(await page.evaluate(() => client.status.status), "connected");
}

claim("json_of_every_kind_comes_back_as_it_went", async (stage) => {
  const page = await connected(stage);
  const values = [
    null, true, 0, -1.5, 9007199254740991, "", "grüße 👋🏽 \u0000 \u2028 ﷽ 漢字", [], {}, [[1], [2, [3]]],
    { a: { b: [null] }, "": 1, "ключ": "значение" },
  ];
  assert.deepEqual(await page.evaluate((values) => Promise.all(values.map((value) => client.call("echo", value))), values), values);
  assert.equal(await page.evaluate(() => client.call("echo")), null, "no argument is null");
});

claim("a_uint8array_travels_as_bytes_both_ways_and_everything_else_as_json", async (stage) => {
  const page = await connected(stage);
  const seen = await page.evaluate(async () => {
    const reversed = await client.call("reverse", new Uint8Array([0, 1, 128, 255]));
    const part = new Uint8Array(new Uint8Array([9, 1, 2, 3, 9]).buffer, 1, 3);
    return {
      isBytes: reversed instanceof Uint8Array,
      reversed: [...reversed],
      part: [...(await client.call("echo", part))],
      empty: (await client.call("echo", new Uint8Array())).length,
      bytes: await client.call("describe", new Uint8Array(3)),
      json: await client.call("describe", { a: 1 }),
    };
  });
  assert.deepEqual(seen, {
    isBytes: true,
    reversed: [255, 128, 1, 0],
    part: [1, 2, 3],
    empty: 0,
    bytes: { encoding: "bytes", length: 3 },
    json: { encoding: "json", length: 7 },
  });
});

claim("what_has_no_json_form_is_unreadable_at_once", async (stage) => {
  const page = await connected(stage);
  const errors = await page.evaluate(() => {
    const cycle = {};
    cycle.self = cycle;
    const values = [cycle, 1n, () => {}, new ArrayBuffer(1), new Float32Array(1), new Blob([])];
    return Promise.all(values.map((value) => kit.outcome(client.call("echo", value))));
  });
  for (const { error } of errors) assertHelps(error, "unreadable");
  await assertStillWell(page);
});

claim("sixty_kilobytes_pass_both_ways", async (stage) => {
  const page = await connected(stage);
  const same = await page.evaluate(async () => {
    const sent = crypto.getRandomValues(new Uint8Array(60_000));
    const back = await client.call("echo", sent);
    const text = "ü".repeat(30_000);
    return back.length === sent.length && back.every((byte, at) => byte === sent[at]) && (await client.call("echo", text)) === text;
  });
  assert(same);
});

claim("too_large_is_told_at_once_both_ways_and_the_connection_stays", async (stage) => {
  const page = await connected(stage);
  const { limit, fits, call, notify, reply, answered } = await page.evaluate(async () => {
    const limit = client.session.limits.maxMessage;
    client.on("error", (error) => (globalThis.reported = kit.plain(error)));
    client.handle("large", () => new Uint8Array(limit + 1));
    return {
      limit,
      fits: (await client.call("describe", new Uint8Array(limit))).length,
      call: await kit.outcome(client.call("echo", new Uint8Array(limit + 1))),
      notify: kit.thrown(() => client.notify("note", "x".repeat(limit + 1))),
      reply: await kit.outcome(client.call("bytes", limit + 1)),
      answered: await client.call("ask", { name: "large" }),
    };
  });
  assert.equal(fits, limit);
  assertHelps(call.error, "too_large");
  assert.equal(call.error.name, "CallError");
  assertHelps(notify, "too_large");
  assertHelps(reply.error, "too_large");
  assert.equal(answered.failed.code, "too_large");
  assertHelps(await page.evaluate(() => reported), "too_large");
  await assertStillWell(page);
});

claim("a_handlers_failure_reaches_the_page_with_code_message_and_data", async (stage) => {
  const page = await connected(stage);
  const failure = { code: "illegal_move", message: "Zug 3 ist nicht erlaubt", data: { move: 3, why: ["χ", null] } };
  const { error } = await page.evaluate((failure) => kit.outcome(client.call("fail", failure)), failure);
  assertHelps(error, "illegal_move");
  assert.equal(error.name, "CallError");
  assert.equal(error.message, failure.message);
  assert.deepEqual(error.data, failure.data);
  assert.equal(error.retryable, false);
});

claim("other_failures_are_typed_and_tell_nothing_of_the_inside", async (stage) => {
  const page = await connected(stage);
  const calls = [["broken", "internal"], ["panic", "internal"], ["missing", "not_found"], ["double", "invalid_params"]];
  for (const [name, code] of calls) {
    const { error } = await page.evaluate((name) => kit.outcome(client.call(name, "text")), name);
    assertHelps(error, code);
    assert(!JSON.stringify(error).includes("swordfish"));
  }
  const names = await page.evaluate(() =>
    Promise.all(["", "x".repeat(201), "a\nb", 7].map((name) => kit.outcome(client.call(name)))));
  for (const { error } of names) assertHelps(error, "invalid_name");
  await assertStillWell(page);
});

claim("an_abort_rejects_with_the_signals_reason_and_drops_the_servers_handler", async (stage) => {
  const page = await connected(stage);
  const seen = await page.evaluate(async () => {
    const [started, dropped] = [kit.heard(client, "hang.started"), kit.heard(client, "hang.dropped")];
    const controller = new AbortController();
    const call = client.call("hang", "a", { signal: controller.signal });
    await started;
    const reason = { mine: true };
    controller.abort(reason);
    const rejected = await call.catch((error) => error);
    const early = await client.call("hang", "b", { signal: AbortSignal.abort("before") }).catch((error) => error);
    return { same: rejected === reason, early, dropped: await dropped };
  });
  assert.deepEqual(seen, { same: true, early: "before", dropped: ["a"] });
  await assertStillWell(page);
});

claim("a_timeout_is_typed_and_drops_the_servers_handler", async (stage) => {
  const page = await connected(stage, { callTimeoutMs: 80 });
  const { own, byDefault, dropped } = await page.evaluate(async () => {
    const dropped = kit.heard(client, "hang.dropped", 2);
    return {
      own: await kit.outcome(client.call("hang", "own", { timeoutMs: 60 })),
      byDefault: await kit.outcome(client.call("hang", "default")),
      dropped: await dropped,
    };
  });
  for (const { error } of [own, byDefault]) {
    assertHelps(error, "timeout");
    assert.equal(error.retryable, true);
  }
  assert.deepEqual(dropped, ["own", "default"]);
  await assertStillWell(page);
});

claim("the_server_calls_handlers_of_the_page", async (stage) => {
  const page = await connected(stage);
  const seen = await page.evaluate(async () => {
    const ask = (name, data, timeoutMs) => client.call("ask", { name, data, timeoutMs });
    client.on("error", ({ code, cause }) => (globalThis.reported = [code, String(cause)]));
    const undo = client.handle("add", ({ a, b }) => a - b);
    client.handle("add", async ({ a, b }, context) => a + b + (context.client === client ? 0 : 1000));
    undo(); // It was replaced: this must not take the later one away.
    client.handle("refuse", () => { throw new moorline.Fail("no_move", "The game is over", { data: { by: "ann" } }); });
    client.handle("broken", () => { throw new TypeError("swordfish"); });
    return {
      answer: await ask("add", { a: 40, b: 2 }),
      refused: await ask("refuse"),
      broken: await ask("broken"),
      missing: await ask("missing"),
    };
  });
  assert.deepEqual(seen.answer, { ok: 42 });
  assert.deepEqual(seen.refused, { failed: { code: "no_move", message: "The game is over", data: { by: "ann" } } });
  assert.equal(seen.broken.failed.code, "internal");
  assert(!JSON.stringify(seen.broken).includes("swordfish"));
  assert.equal(seen.missing.failed.code, "not_found");
  assert.deepEqual(await page.evaluate(() => reported), ["internal", "TypeError: swordfish"]);
});

claim("a_page_handlers_signal_aborts_when_the_server_gives_up", async (stage) => {
  const page = await connected(stage);
  const seen = await page.evaluate(async () => {
    const aborted = [];
    const handled = () => new Promise((started) => {
      client.handle("wait", (label, { signal }) => new Promise((resolve) => {
        signal.addEventListener("abort", () => {
          aborted.push([label, signal.reason.code]);
          resolve("too late");
          globalThis.wasAborted?.();
        });
        started();
      }));
    });
    const abort = () => new Promise((resolve) => (globalThis.wasAborted = resolve));

    // The server's own time limit,
    let [started, ended] = [handled(), abort()];
    const limited = await client.call("ask", { name: "wait", data: 1, timeoutMs: 50 });
    await ended;
    // and its handler, which asks, being dropped because the page no longer waits for it.
    [started, ended] = [handled(), abort()];
    const controller = new AbortController();
    const call = client.call("ask", { name: "wait", data: 2 }, { signal: controller.signal }).catch(() => {});
    await started;
    controller.abort();
    await Promise.all([call, ended]);
    return { limited, aborted };
  });
  assert.match(seen.limited.error, /in time/);
  assert.deepEqual(seen.aborted, [[1, "cancelled"], [2, "cancelled"]]);
  await assertStillWell(page);
});

claim("notifications_go_both_ways_in_order_and_volatile_ones_too", async (stage) => {
  const page = await connected(stage);
  const heard = await page.evaluate(async () => {
    const reliable = kit.heard(client, "noted", 200);
    for (let n = 0; n < 200; n++) client.notify("note", n);
    const first = await reliable;
    const volatile = kit.heard(client, "noted");
    client.notify("note", "cursor", { volatile: true });
    return { first, volatile: await volatile };
  });
  assert.deepEqual(heard.first, Array.from({ length: 200 }, (_, n) => n));
  assert.deepEqual(heard.volatile, ["cursor"]);
});

claim("calls_made_while_connecting_wait_and_a_volatile_notification_is_dropped", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  const seen = await page.evaluate(async () => {
    const client = moorline.connect();
    client.notify("note", "dropped", { volatile: true });
    client.notify("note", "kept");
    const heard = kit.heard(client, "noted", 2);
    const answers = await Promise.all([client.call("double", 1), client.call("double", 2)]);
    client.notify("note", "later");
    return { answers, heard: await heard };
  });
  assert.deepEqual(seen, { answers: [2, 4], heard: ["kept", "later"] });
});

claim("a_thousand_calls_at_once_are_each_answered_once", async (stage) => {
  const page = await connected(stage);
  const wrong = await page.evaluate(async () => {
    const answers = await Promise.all(Array.from({ length: 1000 }, (_, n) => client.call("double", n)));
    return answers.filter((answer, n) => answer !== 2 * n).length;
  });
  assert.equal(wrong, 0);
});
