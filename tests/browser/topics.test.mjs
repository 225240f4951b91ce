// Topics: what was there, then what comes, over every connection; and where something is missing, the page is told.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";

import { assertHelps, claim, NETWORK } from "./support/claim.mjs";
import { scratch } from "./support/environment.mjs";

const QUICK = { reconnectBaseMs: 5, reconnectMaxMs: 20 };
const HOUR = 3_600_000;
/** It comes back when it is told to. */
const PATIENT = { reconnectBaseMs: HOUR, reconnectMaxMs: HOUR };

/** A fixture whose topics lie in a directory that the test may use again. */
async function serve(stage, { topics, ...options } = {}) {
  await mkdir(scratch, { recursive: true });
  const directory = topics ?? (await mkdtemp(join(scratch, "topics-")));
  if (!topics) stage.onEnd(() => rm(directory, { recursive: true, force: true }));
  return Object.assign(await stage.fixture({ topics: directory, ...options }), { topics: directory });
}

/** A page with a client, by default straight to the server. */
async function visit(stage, { http, url = "/moorline", key, ...options }) {
  const page = await stage.page(http);
  const more = key === undefined ? {} : { serverKey: key };
  await page.evaluate(async ([url, options]) => {
    globalThis.client = moorline.connect(url, options);
    await client.ready();
  }, [url, { ...QUICK, ...more, ...options }]);
  return page;
}

/** Publishes `{ n }` for these numbers, many at once and in order. */
function publish(page, name, from, to) {
  return page.evaluate(([name, from, to]) => kit.publish(client, name, from, to), [name, from, to]);
}

const upTo = (count, from = 1) => Array.from({ length: count }, (_, at) => from + at);

claim("a_chat_begins_with_its_history_and_goes_on_live_on_every_page", async (stage) => {
  const { http } = await serve(stage);
  const [ann, ben] = [await visit(stage, { http }), await visit(stage, { http })];
  await publish(ann, "log:chat", 1, 3);
  await ben.evaluate(async () => {
    globalThis.room = client.topic("log:chat", { history: 2 });
    globalThis.loop = room[Symbol.asyncIterator]();
    await room.ready();
  });
  const opened = await ben.evaluate(() => kit.eventually(() => room.current.synced).then(() => room.current));
  assert.deepEqual(opened, { status: "open", recovered: undefined, gap: undefined, synced: true, error: undefined });
  const heard = await ann.evaluate(async () => {
    globalThis.quiet = client.topic("log:chat", { echo: false });
    globalThis.quietLoop = quiet[Symbol.asyncIterator]();
    globalThis.loud = client.topic("log:chat");
    globalThis.loudLoop = loud[Symbol.asyncIterator]();
    await Promise.all([quiet.ready(), loud.ready()]);
    const position = await loud.publish({ n: 4 });
    const { value } = await loudLoop.next();
    return { same: value.position === position, recovered: value.recovered, n: value.data.n };
  });
  assert.deepEqual(heard, { same: true, recovered: false, n: 4 }, "a publisher hears itself");
  const read = await ben.evaluate(async () => {
    const read = await kit.take(loop, 3);
    await room.publish({ n: 5 });
    return read.map(({ data, recovered, gap }) => [data.n, recovered, gap]);
  });
  assert.deepEqual(read, [[2, true, undefined], [3, true, undefined], [4, false, undefined]]);
  assert.equal(await ann.evaluate(async () => (await quietLoop.next()).value.data.n), 5, "what others say, and not itself");
  const later = await ben.evaluate(async () => {
    const shared = client.topic("log:chat");
    const read = await kit.take(shared[Symbol.asyncIterator](), 2);
    room.close();
    shared.close();
    return [read.map(({ data }) => data.n), (await kit.take(loop, 2)).map((message) => message?.data.n), room.current.status];
  });
  assert.deepEqual(later, [[4, 5], [5, undefined], "closed"]);
});

claim("over_many_cuts_every_message_comes_once_and_in_order_and_nothing_is_missing", async (stage) => {
  const { http, url, key } = await serve(stage);
  const cutter = await stage.cutter(url, { seed: 5, cuts: 40, lives: [3_000, 10_000] });
  const [writer, reader] = [await visit(stage, { http }), await visit(stage, { http, url: cutter.url, key })];
  await reader.evaluate(async () => {
    globalThis.room = client.topic("log:cuts");
    globalThis.loop = room[Symbol.asyncIterator]();
    globalThis.gaps = kit.events(room, "gap");
    globalThis.states = [];
    room.subscribe(({ status, synced, recovered }) => status === "open" && !synced && states.push(recovered));
    await room.ready();
  });
  await publish(writer, "log:cuts", 1, 2_000);
  const found = await reader.evaluate(async (count) => {
    const read = await kit.take(loop, count);
    return { numbers: read.map(({ data }) => data.n), late: read.filter(({ recovered }) => recovered).length, gaps, states };
  }, 2_000);
  assert.deepEqual(found.numbers, upTo(2_000));
  assert.deepEqual(found.gaps, []);
  assert(found.late > 0, "some were there before it was open again");
  assert(found.states.length > 1, `it was opened ${found.states.length} times`);
  assert.deepEqual([...new Set(found.states.slice(1))], [true], "each time it went on where it had been");
}, { tolerated: NETWORK });

claim("what_the_server_no_longer_keeps_is_a_gap_that_is_told_and_stands_on_the_first_message_after_it", async (stage) => {
  const { http, url, key } = await serve(stage);
  const cutter = await stage.cutter(url);
  const writer = await visit(stage, { http });
  const reader = await visit(stage, { http, url: cutter.url, key, ...PATIENT });
  await publish(writer, "short:talk", 1, 2);
  await reader.evaluate(async () => {
    globalThis.room = client.topic("short:talk", { history: 3 });
    globalThis.loop = room[Symbol.asyncIterator]();
    globalThis.gaps = kit.events(room, "gap");
    await kit.take(loop, 2);
    globalThis.lost = kit.until(client, ({ status }) => status === "connecting");
  });
  cutter.cut();
  await reader.evaluate(() => lost);
  assert.equal(await reader.evaluate(() => room.current.status), "opening");
  await publish(writer, "short:talk", 3, 20);
  const found = await reader.evaluate(async () => {
    dispatchEvent(new Event("online"));
    const read = await kit.take(loop, 3);
    return { read: read.map(({ data, gap, recovered }) => [data.n, gap, recovered]), gaps, state: room.current };
  });
  assert.deepEqual(found.read, [[18, "trimmed", true], [19, undefined, true], [20, undefined, true]]);
  assert.deepEqual(found.gaps, ["trimmed"]);
  assert.deepEqual(found.state, { status: "open", recovered: false, gap: "trimmed", synced: true, error: undefined });
}, { tolerated: NETWORK });

claim("a_loop_that_is_slow_waits_or_loses_or_fails_as_it_was_asked_to", async (stage) => {
  const { http } = await serve(stage);
  const [writer, reader] = [await visit(stage, { http }), await visit(stage, { http })];
  await reader.evaluate(async () => {
    globalThis.slow = {};
    for (const overflow of ["pause", "drop", "error"]) {
      const room = client.topic(`log:${overflow}`, { overflow, buffer: 8 });
      slow[overflow] = { room, loop: room[Symbol.asyncIterator](), heard: kit.events(room, "message") };
      await room.ready();
    }
  });
  for (const overflow of ["pause", "drop", "error"]) await publish(writer, `log:${overflow}`, 1, 100);
  const { paused, dropped, failed } = await reader.evaluate(async () => {
    const numbers = (read) => read.map(({ data, gap }) => (gap ? `${data.n} after ${gap}` : data.n));
    await kit.eventually(() => slow.drop.heard.length === 100 && slow.error.heard.length === 100);
    const paused = { heard: slow.pause.heard.length, numbers: numbers(await kit.take(slow.pause.loop, 100)) };
    const dropped = numbers(await kit.take(slow.drop.loop, 8));
    const failed = numbers(await kit.take(slow.error.loop, 8));
    return { paused, dropped, failed: [failed, await kit.outcome(slow.error.loop.next())] };
  });
  assert(paused.heard < 100, `${paused.heard} came before anything was read`);
  assert.deepEqual(paused.numbers, upTo(100));
  assert.deepEqual(dropped, ["93 after overflow", ...upTo(7, 94)]);
  assert.deepEqual(failed[0], upTo(8));
  assertHelps(failed[1].error, "overflow");
});

claim("a_server_that_was_killed_goes_on_where_it_was_with_what_it_had_confirmed", async (stage) => {
  const first = await serve(stage);
  const { http } = first;
  const [writer, reader] = [await visit(stage, { http }), await visit(stage, { http })];
  await reader.evaluate(async () => {
    globalThis.room = client.topic("log:kept");
    globalThis.loop = room[Symbol.asyncIterator]();
    globalThis.gaps = kit.events(room, "gap");
    await room.ready();
  });
  await publish(writer, "log:kept", 1, 50);
  await first.stop("SIGKILL");
  await writer.evaluate(() => {
    globalThis.waiting = Promise.all([51, 52, 53].map((n) =>
      client.publish("log:kept", { n }, { idempotencyKey: crypto.randomUUID(), timeoutMs: 50_000 })));
  });
  await serve(stage, { topics: first.topics, port: first.port });
  await writer.evaluate(() => waiting);
  const found = await reader.evaluate(async () => {
    const read = await kit.take(loop, 53);
    return { numbers: read.map(({ data }) => data.n), gaps, recovered: room.current.recovered };
  });
  assert.deepEqual(found, { numbers: upTo(53), gaps: [], recovered: true });
}, { tolerated: NETWORK });

claim("a_page_that_keeps_its_position_goes_on_after_a_reload", async (stage) => {
  const { http } = await serve(stage);
  const [writer, reader] = [await visit(stage, { http }), await stage.page(http)];
  await publish(writer, "log:page", 1, 5);
  const follow = () => reader.evaluate(async () => {
    globalThis.client = moorline.connect();
    globalThis.room = client.topic("log:page", { history: 2, ...(localStorage.since && { since: localStorage.since }) });
    const read = await kit.take(room[Symbol.asyncIterator](), 2);
    localStorage.since = room.position;
    return [read.map(({ data }) => data.n), room.current.recovered];
  });
  assert.deepEqual(await follow(), [[4, 5], undefined]);
  await publish(writer, "log:page", 6, 7);
  await reader.reload();
  assert.deepEqual(await follow(), [[6, 7], true]);
});

claim("a_topic_that_there_is_not_closes_with_the_reason_and_so_does_what_is_published_there", async (stage) => {
  const { http } = await serve(stage);
  const page = await visit(stage, { http });
  const { ready, loop, published, state } = await page.evaluate(async () => {
    const nothing = client.topic("nothing:1");
    const [ready, loop, published] = await Promise.all([
      kit.outcome(nothing.ready()), kit.outcome(nothing[Symbol.asyncIterator]().next()), kit.outcome(client.publish("nothing:1", 1)),
    ]);
    return { ready, loop, published, state: nothing.current.status };
  });
  for (const { error } of [ready, loop, published]) {
    assertHelps(error, "no_such_channel");
    assert.equal(error.name, "ChannelError");
  }
  assert.equal(state, "closed");
});

/** Waits until the members that a page sees pass, and gives them by name. */
function members(page, passes) {
  return page.evaluate(async (passes) => {
    const holds = new Function("members", `return ${passes}`);
    const look = () => Object.fromEntries(room.members.current.map((member) => [member.data.name, member]));
    await kit.eventually(() => holds(look()));
    return look();
  }, passes);
}

/** A page that is in this topic as somebody. */
async function enter(stage, where, name, topic) {
  const page = await visit(stage, { ...where, auth: name });
  await page.evaluate(async ([name, topic]) => {
    globalThis.room = client.topic(topic, { presence: { name } });
    globalThis.direct = kit.events(room, "direct");
    globalThis.heard = kit.events(room, "message");
    await room.ready();
  }, [name, topic]);
  return page;
}

claim("members_come_and_go_and_one_whose_line_is_cut_is_away_and_returns_as_the_same", async (stage) => {
  const { http, url, key } = await serve(stage, { auth: "doorman" });
  const cutter = await stage.cutter(url);
  const ben = await enter(stage, { http }, "ben", "room:m");
  assert.deepEqual(Object.keys(await members(ben, "members.ben")), ["ben"]);
  const ann = await enter(stage, { http, url: cutter.url, key, ...PATIENT }, "ann", "room:m");
  for (const page of [ann, ben]) assert.deepEqual(Object.keys(await members(page, "members.ann && members.ben")).sort(), ["ann", "ben"]);
  const seen = await members(ben, "members.ann");
  assert.deepEqual([seen.ann.subject, seen.ann.away, seen.ann.seenAt, seen.ann.me, seen.ben.me], ["ann", false, undefined, false, true]);
  assert.equal(seen.ann.id, await ann.evaluate(() => client.session.member));
  assert(Math.abs(seen.ann.joinedAt - Date.now()) < 60_000);

  await ann.evaluate(() => room.setPresence({ name: "ann", mood: "bright" }));
  assert.equal((await members(ben, "members.ann?.data.mood")).ann.data.mood, "bright");
  cutter.cut();
  const away = (await members(ben, "members.ann.away")).ann;
  assert.equal(away.id, seen.ann.id);
  assert(away.seenAt >= away.joinedAt);
  await ben.evaluate((id) => room.sendTo(id, "while you were away"), away.id);
  await ann.evaluate(async () => {
    dispatchEvent(new Event("online"));
    await kit.eventually(() => room.current.recovered && direct.length === 1);
  });
  const back = (await members(ben, "!members.ann.away")).ann;
  assert.deepEqual([back.id, back.data.mood, back.seenAt], [seen.ann.id, "bright", undefined]);
  const [{ data, from }] = await ann.evaluate(() => direct);
  assert.deepEqual([data, from], ["while you were away", { member: seen.ben.id, subject: "ben" }]);
  await ann.evaluate(() => room.close());
  await members(ben, "!members.ann");
  const gone = await ben.evaluate((id) => kit.outcome(room.sendTo(id, "hello?")), seen.ann.id);
  assertHelps(gone.error, "no_such_member");
}, { tolerated: NETWORK });

claim("a_member_whose_loop_is_slow_is_seen_to_stay_and_misses_nothing", async (stage) => {
  const { http } = await serve(stage);
  const [ann, ben] = [await visit(stage, { http }), await visit(stage, { http })];
  await ann.evaluate(async () => {
    globalThis.room = client.topic("room:1", { presence: { name: "ann" }, buffer: 4 });
    globalThis.loop = room[Symbol.asyncIterator]();
    await room.ready();
  });
  await ben.evaluate(async () => {
    globalThis.room = client.topic("room:1", { presence: { name: "ben" } });
    await room.ready();
    await kit.eventually(() => room.members.current.length === 2);
    globalThis.changes = 0;
    room.members.subscribe(() => changes++);
  });
  await publish(ben, "room:1", 1, 100);
  await ann.evaluate(() => kit.eventually(() => !room.current.synced && room.members.current.length === 2));
  // While she reads nothing she says something else, and is heard.
  await ann.evaluate(() => room.setPresence({ name: "ann", mood: "busy" }));
  assert.equal((await members(ben, "members.ann?.data.mood")).ann.data.mood, "busy");
  assert.deepEqual(await ann.evaluate(async () => (await kit.take(loop, 100)).map(({ data }) => data.n)), upTo(100));
  await ann.evaluate(() => kit.eventually(() => room.current.synced));
  assert.equal(await ben.evaluate(() => changes), 1, "her mood alone");
});

claim("what_is_sent_to_one_nobody_else_hears_and_a_presence_may_come_later", async (stage) => {
  const { http } = await serve(stage, { auth: "doorman" });
  const [ann, ben] = [await enter(stage, { http }, "ann", "room:d"), await enter(stage, { http }, "ben", "room:d")];
  const onlooker = await visit(stage, { http, auth: "eve" });
  await onlooker.evaluate(async () => {
    globalThis.room = client.topic("room:d");
    globalThis.direct = kit.events(room, "direct");
    await room.ready();
  });
  assert.deepEqual(Object.keys(await members(onlooker, "members.ann && members.ben")).sort(), ["ann", "ben"], "an onlooker is none");
  await onlooker.evaluate(() => room.setPresence({ name: "eve" }));
  await members(ann, "members.eve");
  await ann.evaluate(async () => {
    await kit.eventually(() => room.members.current.length === 3);
    await room.sendTo(room.members.current.find(({ data }) => data.name === "ben"), new Uint8Array([1, 2]));
  });
  const bytes = await ben.evaluate(async () => {
    await kit.eventually(() => direct.length === 1);
    return [...direct[0].data];
  });
  assert.deepEqual(bytes, [1, 2]);
  // What would have come to the others came before this.
  for (const page of [ann, onlooker]) {
    await page.evaluate(() => client.call("double", 1));
    assert.deepEqual(await page.evaluate(() => direct), []);
  }
});

claim("what_is_volatile_is_heard_by_who_is_there_and_kept_nowhere", async (stage) => {
  const { http } = await serve(stage, { auth: "doorman" });
  const [ann, ben] = [await enter(stage, { http }, "ann", "log:v"), await enter(stage, { http }, "ben", "log:v")];
  await ann.evaluate(async () => {
    room.publish({ x: 1 }, { volatile: true });
    await room.publish({ x: 2 });
  });
  const read = await ben.evaluate(async () => {
    await kit.eventually(() => heard.length === 2);
    return heard.map(({ data, position, from, recovered }) => [data.x, position !== undefined, from.subject, recovered]);
  });
  assert.deepEqual(read, [[1, false, "ann", false], [2, true, "ann", false]]);
  const later = await enter(stage, { http }, "eve", "log:v");
  const kept = await later.evaluate(async () => (await room.history()).messages.map(({ data }) => data.x));
  assert.deepEqual(kept, [2]);
});

claim("history_is_read_backwards_page_by_page", async (stage) => {
  const { http } = await serve(stage);
  const page = await visit(stage, { http });
  await publish(page, "log:pages", 1, 120);
  const pages = await page.evaluate(async () => {
    globalThis.room = await client.topic("log:pages").ready();
    const pages = [];
    let before;
    for (let more = true; more;) {
      const page = await room.history({ ...(before && { before }) });
      pages.push([page.messages[0].data.n, page.messages.at(-1).data.n, page.messages.length, page.more]);
      ({ more } = page);
      before = page.messages[0].position;
    }
    const other = await client.topic("log:other").ready();
    await other.publish({ n: 1 });
    return { pages, unknown: await kit.outcome(other.history({ before })) };
  });
  assert.deepEqual(pages.pages, [[71, 120, 50, true], [21, 70, 50, true], [1, 20, 20, false]]);
  assertHelps(pages.unknown.error, "unknown_position");
});
