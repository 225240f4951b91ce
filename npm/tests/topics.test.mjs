import assert from "node:assert/strict";
import { test } from "node:test";

import { MoorlineClient } from "../dist/client.js";
import { ChannelError } from "../dist/errors.js";
import { isPosition, bytesOf, positionFrom } from "../dist/position.js";
import { bytes, environment, failure, ME, position, session, settings, turn } from "./fake-core.mjs";

const TOPIC = 1;
const at = (n) => positionFrom(position(n));
const PLAIN = { history: 0, quiet: false, members: true, since: undefined, data: undefined };

/** A client whose core is there and connected. */
async function opened(options) {
  const around = environment();
  const client = new MoorlineClient({ ...settings, ...options }, around);
  await turn();
  around.core.connected();
  return { client, core: around.core };
}

/** A topic that is open, with the number that the core knows it by. */
async function following(options) {
  const { client, core } = await opened();
  const room = client.topic("room:1", options);
  core.opens(1);
  return { client, core, room };
}

/** The numbers of what a loop gives: `n`, `n!gap`, and how it ends. All that is there at the time, or until the end. */
function reading(room) {
  const seen = [];
  const loop = room[Symbol.asyncIterator]();
  const done = (async () => {
    try {
      for await (const { data, gap } of loop) seen.push(gap ? `${data.n}!${gap}` : data.n);
      seen.push("end");
    } catch (error) {
      seen.push(error.code ?? error);
    }
  })();
  return { seen, loop, done };
}

/** What is ready to be read, one by one. */
async function take(loop, count) {
  const seen = [];
  for (let n = 0; n < count; n++) {
    const { value, done } = await loop.next();
    seen.push(done ? "end" : value.gap ? `${value.data.n}!${value.gap}` : value.data.n);
  }
  return seen;
}

test("a topic is followed at once, and its messages say what, who, where and when", async () => {
  const { client, core } = await opened();
  const room = client.topic("room:1", { history: 50, presence: { name: "ann" } });
  assert.equal(room.name, "room:1");
  assert.deepEqual(core.only("follow"), [["follow", TOPIC, "room:1", { ...PLAIN, history: 50, data: { name: "ann" } }]]);
  core.opens(1);
  core.recalls(1, 1);
  core.tells(1, 2);
  const loop = room[Symbol.asyncIterator]();
  const [old, live] = [(await loop.next()).value, (await loop.next()).value];
  assert.deepEqual(old, { data: { n: 1 }, from: { member: "b0", subject: "bob" }, position: at(1), at: 1, recovered: true });
  assert.deepEqual([live.data, live.recovered], [{ n: 2 }, false]);
  assert.ok(Object.isFrozen(live));
});

test("a topic made before the wasm is there is followed before what waits is sent", async () => {
  const around = environment();
  const client = new MoorlineClient(settings, around);
  const room = client.topic("room:1");
  const published = client.publish("room:1", { n: 1 });
  assert.equal(room.current.status, "opening");
  await turn();
  assert.deepEqual(around.core.log.map(([method]) => method), ["start", "follow", "request"]);
  around.core.answers(1, position(3));
  assert.equal(await published, at(3));
});

test("regression: a topic made while the core starts is followed once", async () => {
  const around = environment();
  const Core = await around.loadCore();
  around.loadCore = async () => class extends Core {
    start() {
      super.start();
      this.host.onStatus({ status: "connecting", attempt: 1 });
    }
  };
  const client = new MoorlineClient(settings, around);
  client.on("status", () => client.topic("room:1"));
  await turn();
  assert.equal(around.core.only("follow").length, 1);
});

test("the state is the same object until it changes, and a cut and a gap are told", async () => {
  const { client, core } = await opened();
  const room = client.topic("room:1");
  const seen = [];
  const gaps = [];
  room.subscribe((state) => seen.push([state.status, state.recovered, state.gap]));
  room.on("gap", (gap) => gaps.push(gap));
  const before = room.current;
  core.members(1, true, { id: "b0" });
  core.tells(1, 1);
  assert.equal(room.current, before);
  core.opens(1, "new", 0);
  assert.equal(room.current, room.current);
  core.lost();
  core.lost({ attempt: 2 });
  core.opens(1, "recovered", 1);
  core.lost();
  core.opens(1, "trimmed", 7);
  assert.deepEqual(seen, [
    ["open", undefined, undefined], ["opening", undefined, undefined], ["open", true, undefined],
    ["opening", true, undefined], ["open", false, "trimmed"],
  ]);
  assert.deepEqual(gaps, ["trimmed"]);
  assert.ok(Object.isFrozen(room.current));
  assert.deepEqual(core.only("follow").length, 1, "the core opens it again by itself");
});

test("ready waits until it is open, and rejects with why it is not", async () => {
  const { client, core } = await opened();
  const [room, secret] = [client.topic("room:1"), client.topic("secret")];
  const ready = room.ready();
  await assert.rejects(room.ready({ timeoutMs: 1 }), { name: "ChannelError", code: "timeout" });
  await assert.rejects(room.ready({ signal: AbortSignal.abort("no") }), (reason) => reason === "no");
  core.opens(1);
  assert.equal(await ready, room);
  assert.equal(await room.ready(), room);
  const refused = secret.ready();
  core.host.onChannelClosed(2, failure("forbidden", { message: "Not yours" }));
  await assert.rejects(refused, { name: "ChannelError", code: "forbidden", message: "Not yours" });
  await assert.rejects(secret.ready(), { code: "forbidden" });
  const closing = client.topic("room:2").ready();
  client.topic("room:3").close();
  client.close();
  core.closed();
  await assert.rejects(closing, { name: "ChannelError", code: "closed" });
});

test("one name and echo are one attachment, left with the last who shares it", async () => {
  const { client, core } = await opened();
  const [one, two, quiet] = [client.topic("room:1"), client.topic("room:1"), client.topic("room:1", { echo: false })];
  assert.deepEqual(core.only("follow").map(([, , name, { quiet }]) => [name, quiet]), [["room:1", false], ["room:1", true]]);
  core.opens(1);
  assert.deepEqual([one, two, quiet].map(({ current }) => current.status), ["open", "open", "opening"]);
  assert.equal(one.current, two.current);
  const [a, b, c] = [one, two, quiet].map(reading);
  core.tells(1, 1);
  one.close();
  one.close();
  core.tells(1, 2);
  assert.deepEqual(core.only("unfollow"), []);
  two.close();
  assert.deepEqual(core.only("unfollow"), [["unfollow", 1]]);
  core.tells(1, 3);
  await Promise.all([a.done, b.done]);
  assert.deepEqual([a.seen, b.seen, c.seen], [[1, "end"], [1, 2, "end"], []]);
  const again = client.topic("room:1");
  assert.deepEqual(core.only("follow").length, 3);
  again[Symbol.dispose]();
  assert.deepEqual(core.only("unfollow"), [["unfollow", 1], ["unfollow", 3]]);
});

test("who comes later begins with the newest of the history that is still there", async () => {
  const { client, core, room } = await following({ history: 2 });
  core.recalls(1, 1, 2);
  core.tells(1, 3);
  core.flashes(1, 9);
  const later = client.topic("room:1", { history: 5 });
  core.tells(1, 4, 5, 6, 7, 8);
  assert.deepEqual(await take(later[Symbol.asyncIterator](), 3), [2, 3, 4]);
  assert.deepEqual(await take(client.topic("room:1")[Symbol.asyncIterator](), 5), [4, 5, 6, 7, 8]);
  assert.equal(core.only("follow").length, 1, "an open topic is not opened again for more");
  assert.deepEqual(await take(room[Symbol.asyncIterator](), 4), [1, 2, 3, 9]);
});

test("who comes later with more wishes gets them: history before it is open, members at any time", async () => {
  const { client, core } = await opened();
  client.topic("room:1", { members: false });
  client.topic("room:1", { members: false, history: 5 });
  assert.deepEqual(core.log.slice(1).map(([method, ...args]) => [method, args.at(-1).history]), [["follow", 0], ["follow", 5]]);
  core.opens(2, "new", 3);
  const room = client.topic("room:1");
  const again = { ...PLAIN, history: 5, since: position(3), instead: 2 };
  assert.deepEqual(core.log.at(-1), ["follow", TOPIC, "room:1", again]);
  assert.equal(room.current.status, "opening");
  core.opens(2, "trimmed");
  assert.equal(room.current.gap, undefined, "what is told of the one before is passed over");
  core.opens(3, "recovered", 3);
  assert.equal(room.current.status, "open");
});

test("since is where the first begins; who comes later hears what is missing before what is still there", async () => {
  const { client, core } = await opened();
  const first = client.topic("room:1", { since: at(300), history: 3 });
  assert.deepEqual(core.only("follow")[0][3].since, position(300));
  assert.equal(first.position, at(300));
  const same = client.topic("room:1", { since: at(300) });
  core.opens(1, "recovered", 300);
  core.recalls(1, 301, 302);
  assert.deepEqual(await take(same[Symbol.asyncIterator](), 2), [301, 302]);
  assert.deepEqual(await take(client.topic("room:1", { since: at(301) })[Symbol.asyncIterator](), 1), [302]);
  const [none, old] = [client.topic("room:1", { since: at(302) }), client.topic("room:1", { since: at(7) })];
  core.tells(1, 303);
  assert.deepEqual(await take(none[Symbol.asyncIterator](), 1), [303]);
  assert.deepEqual(await take(old[Symbol.asyncIterator](), 3), ["301!trimmed", 302, 303]);
});

test("what comes before the first loop waits for it, the newest of it", async () => {
  const { core, room } = await following({ buffer: 3 });
  core.tells(1, 1, 2, 3, 4, 5);
  core.flashes(1, 6);
  assert.deepEqual(await take(room[Symbol.asyncIterator](), 3), ["3!overflow", 4, 5], "a volatile one makes nothing give way");
  assert.deepEqual(core.only("unfollow"), []);
});

test("loops have a queue each, and the next goes on where the last was left", async () => {
  const { core, room } = await following();
  const one = room[Symbol.asyncIterator]();
  core.tells(1, 1);
  const two = room[Symbol.asyncIterator]();
  core.tells(1, 2, 3);
  assert.deepEqual(await take(two, 1), [2]);
  assert.deepEqual(await two.return(), { value: undefined, done: true });
  assert.deepEqual(await take(two, 2), ["end", "end"]);
  assert.deepEqual(await take(one, 2), [1, 2]);
  const pending = one.next();
  assert.deepEqual((await pending).value.data, { n: 3 });
  core.tells(1, 4, 5);
  for await (const { data } of one) {
    assert.deepEqual(data, { n: 4 });
    break;
  }
  core.tells(1, 6);
  assert.deepEqual(await take(room[Symbol.asyncIterator](), 2), [5, 6]);
});

test("a loop that is left while it waits is done", async () => {
  const { core, room } = await following();
  const loop = room[Symbol.asyncIterator]();
  const waiting = [loop.next(), loop.next()];
  await loop.return();
  core.tells(1, 1);
  assert.deepEqual(await Promise.all(waiting), Array(2).fill({ value: undefined, done: true }));
  assert.deepEqual(await take(room[Symbol.asyncIterator](), 1), [1]);
});

test("overflow pause: it is held where it is and gone on with from there, and nothing is lost", async () => {
  const { client, core, room } = await following({ buffer: 4 });
  const fast = reading(client.topic("room:1"));
  const slow = room[Symbol.asyncIterator]();
  const states = [];
  room.subscribe(({ status }) => states.push(status));
  core.tells(1, 1, 2, 3, 4);
  assert.deepEqual(core.only("hold"), []);
  core.tells(1, 5, 6);
  core.flashes(1, 7);
  core.opens(1, "trimmed", 9);
  core.host.onCaughtUp(1);
  assert.deepEqual(core.only("hold", "unfollow"), [["hold", 1]]);
  assert.deepEqual(await take(slow, 1), [1]);
  assert.equal(core.only("follow").length, 1);
  assert.deepEqual(await take(slow, 1), [2]);
  assert.deepEqual(core.only("follow").at(-1), ["follow", TOPIC, "room:1", { ...PLAIN, since: position(4), instead: 1 }]);
  core.tells(1, 7);
  core.opens(2, "recovered", 4);
  core.recalls(2, 5, 6);
  assert.deepEqual(await take(slow, 4), [3, 4, 5, 6]);
  await turn();
  assert.deepEqual(fast.seen, [1, 2, 3, 4, 5, 6]);
  assert.equal(core.only("follow").length, 2);
  assert.equal(room.current.status, "open");
});

test("overflow pause: leaving or closing what is full lets the others go on", async () => {
  for (const how of ["return", "close"]) {
    const { client, core, room } = await following({ buffer: 1 });
    const other = reading(client.topic("room:1"));
    const loop = room[Symbol.asyncIterator]();
    core.tells(1, 1, 2);
    assert.equal(core.only("follow").length, 1);
    if (how === "close") room.close();
    else await loop.return();
    assert.equal(core.only("follow").length, 2);
    core.recalls(2, 2);
    await turn();
    assert.deepEqual(other.seen, [1, 2]);
    if (how === "return") assert.deepEqual(await take(room[Symbol.asyncIterator](), 1), ["2!overflow"]);
    client.close();
  }
});

test("overflow pause: what happens meanwhile waits for the place from which it goes on", async () => {
  const { client, core, room } = await following({ buffer: 1 });
  const loop = room[Symbol.asyncIterator]();
  core.tells(1, 1, 2);
  const shown = room.setPresence("here");
  core.lost();
  core.connected();
  client.topic("room:1", { history: 9, members: true });
  assert.equal(core.only("follow").length, 1);
  assert.equal(room.current.status, "opening");
  await take(loop, 1);
  assert.deepEqual(core.only("follow").at(-1)[3], { ...PLAIN, history: 9, since: position(1), data: "here", instead: 1 });
  core.opens(2, "trimmed", 4);
  core.tells(2, 5);
  assert.deepEqual(await take(loop, 1), ["5!trimmed"]);
  await shown;
});

test("overflow pause: where there is no place to go on from, it says that something is missing", async () => {
  const { core, room } = await following({ buffer: 1 });
  const loop = room[Symbol.asyncIterator]();
  core.flashes(1, 1);
  core.tells(1, 2);
  assert.deepEqual(await take(loop, 1), [1]);
  core.opens(2);
  core.tells(2, 3);
  assert.deepEqual(await take(loop, 1), ["3!overflow"]);
});

test("overflow drop: the oldest goes, and the next one says so; a gap that it would have told is kept", async () => {
  const { core, room } = await following({ buffer: 2, overflow: "drop" });
  const loop = room[Symbol.asyncIterator]();
  core.tells(1, 1, 2, 3, 4);
  core.flashes(1, 9);
  assert.deepEqual(await take(loop, 2), ["3!overflow", 4]);
  core.opens(1, "diverged", 4);
  core.tells(1, 5, 6, 7);
  assert.deepEqual(await take(loop, 2), ["6!diverged", 7]);
  assert.deepEqual(core.only("unfollow"), []);
});

test("overflow error: the loop throws after what waits, once, and the next one says what is missing", async () => {
  const { client, core, room } = await following({ buffer: 2, overflow: "error" });
  const other = reading(client.topic("room:1"));
  const loop = room[Symbol.asyncIterator]();
  core.tells(1, 1, 2);
  core.flashes(1, 9);
  core.tells(1, 3, 4);
  assert.deepEqual(await take(loop, 2), [1, 2]);
  await assert.rejects(loop.next(), (error) => error instanceof ChannelError && error.code === "overflow" && /drop/.test(error.remedy));
  assert.deepEqual(await take(loop, 1), ["end"]);
  assert.deepEqual(await take(room[Symbol.asyncIterator](), 1), ["4!overflow"]);
  await turn();
  assert.deepEqual(other.seen, [1, 2, 9, 3, 4]);
});

test("a gap is on the first message after it, once, and forgets what was kept for who comes later", async () => {
  const { client, core, room } = await following({ history: 3 });
  const loop = reading(room);
  core.tells(1, 1, 2);
  for (const gap of ["recreated", "diverged", "trimmed"]) core.opens(1, gap, 5);
  core.recalls(1, 6, 7);
  await turn();
  assert.deepEqual(loop.seen, [1, 2, "6!trimmed", 7]);
  assert.deepEqual(await take(client.topic("room:1")[Symbol.asyncIterator](), 2), ["6!trimmed", 7]);
});

test("position is up to where it has been handed on", async () => {
  const { core, room } = await following();
  assert.equal(room.position, undefined);
  core.opens(1, "new", 4);
  assert.equal(room.position, at(4), "nothing has come yet");
  core.tells(1, 5, 6);
  core.opens(1, "recovered", 6);
  assert.equal(room.position, at(4));
  const loop = room[Symbol.asyncIterator]();
  await loop.next();
  assert.equal(room.position, at(5));
  await loop.next();
  core.flashes(1, 9);
  await loop.next();
  assert.equal(room.position, at(6));
  await loop.return();
  room.on("message", () => {});
  core.tells(1, 7);
  assert.equal(room.position, at(7), "to who listens");
});

test("a position is text and bytes, and what is none is refused", () => {
  for (const n of [0, 1, 127, 128, 300, 2 ** 53 - 1]) {
    const text = positionFrom(position(n));
    assert.match(text, /^[\w-]+$/);
    assert.ok(isPosition(text));
    assert.deepEqual(bytesOf(text), position(n));
  }
  for (const odd of [undefined, 7, "", "a", "a".repeat(22), "a".repeat(25), "a".repeat(36), `${"a".repeat(22)}+`, `${"a".repeat(22)}=`]) {
    assert.ok(!isPosition(odd), String(odd));
  }
});

test("who listens hears messages as they come, beside loops, and what throws keeps nobody from hearing", async () => {
  const reported = [];
  globalThis.reportError = (error) => reported.push(error);
  try {
    const { core, room } = await following();
    const heard = [];
    room.on("message", () => { throw "a bug"; });
    const off = room.on("message", ({ data, position }) => heard.push([data.n, position]));
    const loop = reading(room);
    core.tells(1, 1);
    core.flashes(1, 2);
    off();
    core.tells(1, 3);
    await turn();
    assert.deepEqual(heard, [[1, at(1)], [2, undefined]]);
    assert.deepEqual(loop.seen, [1, 2, 3]);
    assert.deepEqual(reported, ["a bug", "a bug", "a bug"]);
    assert.throws(() => room.on("mesage", () => {}), { code: "invalid_option", remedy: /`message`/ });
  } finally {
    delete globalThis.reportError;
  }
});

test("a listener may close, follow again and read within its callback", async () => {
  const { client, core, room } = await following({ history: 5 });
  const shared = client.topic("room:1");
  const heard = [];
  let born;
  room.on("message", ({ data }) => {
    heard.push(data.n);
    room.close();
    born = client.topic("room:1");
    shared.close();
  });
  room.on("message", () => heard.push("after it is closed"));
  shared.on("message", () => heard.push("after it is closed"));
  core.tells(1, 1);
  assert.deepEqual(heard, [1]);
  assert.deepEqual(core.only("unfollow"), []);
  assert.deepEqual(await take(born[Symbol.asyncIterator](), 1), [1]);
  assert.equal(room.current.status, "closed");
  born.subscribe(({ status }) => status === "opening" && born.close());
  const states = [];
  born.subscribe(({ status }) => states.push(status));
  core.lost();
  assert.deepEqual(states, ["closed"]);
  assert.deepEqual(core.only("unfollow"), [["unfollow", 1]]);
});

test("a callback that closes the client in the middle of anything breaks nothing", async () => {
  for (const event of ["message", "gap", "direct", "state", "members"]) {
    const { client, core, room } = await following();
    const loop = reading(room);
    const other = client.topic("room:1");
    const close = () => { client.close(); core.closed(); };
    if (event === "state") room.subscribe(close);
    else if (event === "members") room.members.subscribe(close);
    else room.on(event, close);
    core.tells(1, 1);
    core.members(1, true, { id: "b0" });
    core.host.onDirect(TOPIC, "room:1", 1, "b0", "bob", 1, bytes("psst"));
    core.opens(1, "recreated", 1);
    await loop.done;
    assert.deepEqual(loop.seen, [1, "end"], event);
    assert.equal(other.current.status, "closed");
  }
});

test("closed by the server: what waits is read, then the reason is thrown, and the name can be followed again", async () => {
  const { client, core, room } = await following();
  const states = [];
  room.subscribe(({ status, error }) => states.push([status, error?.code]));
  core.tells(1, 1);
  core.host.onChannelClosed(1, failure("no_such_channel"));
  core.tells(1, 2);
  const loop = reading(room);
  await loop.done;
  assert.deepEqual(loop.seen, [1, "no_such_channel"]);
  assert.deepEqual(states, [["closed", "no_such_channel"]]);
  assert.equal(room.current.error.name, "ChannelError");
  assert.deepEqual(core.only("unfollow"), []);
  room.close();
  await assert.rejects(room.publish(1), { code: "closed" });
  client.topic("room:1");
  assert.equal(core.only("follow").length, 2);
});

test("what the core does not take closes the topic, also one made before the core", async () => {
  const { client, core } = await opened();
  core.throws.follow = failure("too_large");
  const refused = client.topic("room:1");
  assert.deepEqual([refused.current.status, refused.current.error.code], ["closed", "too_large"]);
  await assert.rejects(refused.ready(), { name: "ChannelError", code: "too_large" });
  await assert.rejects(refused[Symbol.asyncIterator]().next(), { code: "too_large" });
  client.topic("room:1");
  assert.equal(core.only("follow").length, 2);
});

test("a client that is closed ends its topics, and one made afterwards is closed from the start", async () => {
  const { client, core, room } = await following();
  const loop = reading(room);
  client.close();
  const during = client.topic("room:2");
  assert.equal(during.current.status, "opening");
  core.closed();
  await loop.done;
  assert.deepEqual(loop.seen, ["end"]);
  assert.deepEqual([room, during, client.topic("room:3")].map(({ current }) => [current.status, current.error]), Array(3).fill(["closed", undefined]));
  assert.deepEqual(await take(client.topic("room:4")[Symbol.asyncIterator](), 1), ["end"]);
  await assert.rejects(client.topic("room:5").ready(), { name: "ChannelError", code: "closed" });
  await assert.rejects(client.publish("room:1", 1), { name: "ChannelError", code: "closed" });
  client.publish("room:1", 1, { volatile: true });
  await turn();
  room.close();
  assert.ok(core.freed);
});

test("a client that fails for good ends its topics with the reason", async () => {
  const { core, room } = await following();
  const loop = reading(room);
  core.closed(failure("unauthorized"));
  await loop.done;
  assert.deepEqual(loop.seen, ["unauthorized"]);
  assert.equal(room.current.error.name, "AuthError");
});

test("an abort closes it, and its loops end at once with the reason", async () => {
  const { client, core } = await opened();
  const abort = new AbortController();
  const room = client.topic("room:1", { signal: abort.signal });
  core.opens(1);
  core.tells(1, 1);
  const [unread, waiting] = [room[Symbol.asyncIterator](), room[Symbol.asyncIterator]()];
  const next = waiting.next();
  const publishing = room.publish({ n: 2 });
  abort.abort("enough");
  await assert.rejects(unread.next(), (reason) => reason === "enough");
  await assert.rejects(next, (reason) => reason === "enough");
  assert.deepEqual(await take(unread, 1), ["end"]);
  await assert.rejects(room.ready(), (reason) => reason === "enough");
  assert.deepEqual([room.current.status, room.current.error], ["closed", undefined]);
  assert.deepEqual(core.only("unfollow"), [["unfollow", 1]]);
  core.answers(1, position(2));
  assert.equal(await publishing, at(2), "what was published is on its way");
  assert.throws(() => client.topic("room:1", { signal: abort.signal }), (reason) => reason === "enough");
  assert.equal(core.only("follow").length, 1);
});

test("members are whole and then changes, in lists that stay the same until something changes", async () => {
  const { client, core, room } = await following();
  const seen = [];
  const { subscribe } = room.members;
  const off = subscribe((members) => seen.push(members.map(({ id, away }) => (away ? `${id}?` : id))));
  const empty = room.members.current;
  assert.deepEqual(empty, []);
  core.members(1, true);
  assert.equal(room.members.current, empty);
  core.members(1, true, { id: "b0", subject: "bob", data: { name: "Bob" } }, { id: ME });
  const before = room.members.current;
  assert.equal(room.members.current, before);
  assert.equal(client.topic("room:1").members.current, before);
  assert.deepEqual(before, [
    { id: "b0", subject: "bob", data: { name: "Bob" }, away: false, joinedAt: 10, seenAt: undefined, me: false },
    { id: ME, subject: "ann", data: null, away: false, joinedAt: 10, seenAt: undefined, me: true },
  ]);
  core.members(1, false, { id: "b0", away: 77 }, { id: "c0" });
  assert.deepEqual([room.members.current[0].away, room.members.current[0].seenAt], [true, 77]);
  assert.equal(room.members.current[1], before[1], "who has not changed is the same object");
  core.members(1, false, { id: "b0", left: true }, { id: "none", left: true });
  core.members(1, false);
  core.lost();
  assert.deepEqual(room.members.current.map(({ id }) => id), [ME, "c0"]);
  core.members(1, true, { id: "d0" });
  off();
  core.members(1, true);
  assert.deepEqual(seen, [["b0", ME], ["b0?", ME, "c0"], [ME, "c0"], ["d0"]]);
  core.members(1, false, { id: "e0" });
  room.close();
  core.members(1, true);
  assert.deepEqual(room.members.current.map(({ id }) => id), ["e0"], "of a closed one they stay");
  assert.ok(Object.isFrozen(room.members.current));
});

test("what a member shows and nobody can read is nothing, and a message is reported and passed over", async () => {
  const { client, core, room } = await following();
  const errors = [];
  client.on("error", ({ name, code }) => errors.push([name, code]));
  core.host.onMembers(1, true, ["b0", 1, "bob", 1, 0, 1, Uint8Array.of(0xff)]);
  assert.deepEqual(room.members.current[0].data, undefined);
  const odd = [2, false, "b0", "bob", 1, Uint8Array.of(0xff)];
  core.opens(1, "trimmed", 1);
  core.host.onUpdate(1, position(2), ...odd);
  core.host.onVolatile(1, ...odd.filter((part) => part !== false));
  core.host.onDirect(TOPIC, "room:1", ...odd.filter((part) => part !== false));
  core.tells(1, 3);
  assert.deepEqual(await take(room[Symbol.asyncIterator](), 1), ["3!trimmed"]);
  assert.deepEqual(errors.map(([, code]) => code), ["unreadable", "unreadable", "unreadable"]);
});

test("presence: the newest counts, and what is equal changes nothing", async () => {
  const { client, core, room } = await following({ presence: { name: "a" } });
  client.topic("room:1");
  client.topic("room:1", { presence: { name: "a" } });
  assert.equal(core.only("follow", "request").length, 1);
  client.topic("room:1", { presence: { name: "b" } });
  const [[, kind, what, name, { body }]] = core.only("request");
  assert.deepEqual([kind, what, name, body], [TOPIC, 3, "room:1", { name: "b" }]);
  core.answers(1, new Uint8Array());
  await turn();
  core.lost();
  client.topic("room:1", { presence: { name: "b" } });
  assert.equal(core.only("follow").length, 1, "the core remembers it");
  client.topic("room:1", { presence: { name: "c" } });
  assert.deepEqual(core.only("follow").at(-1)[3].data, { name: "c" });
  assert.equal(room.current.status, "opening");
});

test("a presence that is refused for who comes later is told as an error event, and as none when the client closed", async () => {
  const { client, core } = await following({ presence: 1 });
  const errors = [];
  client.on("error", ({ name, code }) => errors.push([name, code]));
  client.topic("room:1", { presence: 2 });
  core.refuses(1, "forbidden");
  client.topic("room:1", { presence: 3 });
  client.close();
  core.closed();
  await turn();
  assert.deepEqual(errors, [["ChannelError", "forbidden"]]);
});

test("setPresence: asked for on an open topic, part of the next opening otherwise", async () => {
  const { client, core } = await opened();
  const room = client.topic("room:1");
  const first = room.setPresence({ at: "the door" });
  const again = { ...PLAIN, data: { at: "the door" }, instead: 1 };
  assert.deepEqual(core.log.at(-1), ["follow", TOPIC, "room:1", again]);
  core.opens(2, "new", 4);
  await first;
  const second = room.setPresence(null, { timeoutMs: 500 });
  const { timeoutMs } = core.only("request")[0][4];
  assert.ok(timeoutMs > 0 && timeoutMs <= 500, `${timeoutMs} of 500 ms are left`);
  core.answers(1, new Uint8Array());
  await second;
  const refused = room.setPresence("x");
  core.refuses(2, "forbidden");
  await assert.rejects(refused, { name: "ChannelError", code: "forbidden" });
  core.lost();
  assert.deepEqual(core.only("follow").at(-1)[3], { ...PLAIN, since: position(4), data: null, instead: 2 }, "not what was refused");
  await assert.rejects(room.setPresence("y", { timeoutMs: 1 }), { code: "timeout" });
  await assert.rejects(room.setPresence("x".repeat(4_095)), { name: "ChannelError", code: "too_large" });
  await assert.rejects(room.setPresence(1, { timeout: 1 }), { code: "invalid_option" });
  room.close();
  await assert.rejects(room.setPresence(1), { code: "closed" });
});

test("regression: a presence is what it was when it was given", async () => {
  const around = environment();
  const client = new MoorlineClient(settings, around);
  const presence = Uint8Array.of(1);
  client.topic("room:1", { presence });
  presence[0] = 9;
  await turn();
  assert.deepEqual(around.core.only("follow")[0][3].data, Uint8Array.of(1));
});

test("publish resolves to where the message is, with time, key and name", async () => {
  const { client, core, room } = await following();
  const publishing = room.publish({ n: 1 }, { timeoutMs: 500, idempotencyKey: "k" });
  const [[, kind, what, name, { target, count, body, timeoutMs, key }]] = core.only("request");
  assert.deepEqual([kind, what, name, target, count, body, key], [TOPIC, 1, "room:1", undefined, 0, { n: 1 }, "k"]);
  assert.ok(timeoutMs > 400 && timeoutMs <= 500);
  core.answers(1, position(8));
  assert.equal(await publishing, at(8));
  const refused = client.publish("room:2");
  core.refuses(2, "forbidden");
  await assert.rejects(refused, { name: "ChannelError", code: "forbidden" });
});

test("publish waits for room and for a connection, is given up, and settles once", async () => {
  const { client, core } = await opened();
  core.throws.request = failure("backpressure");
  const waiting = client.publish("room:1", { n: 1 });
  core.host.onRoom();
  assert.equal(core.only("request").length, 2);
  const abort = new AbortController();
  const aborted = client.publish("room:1", 1, { signal: abort.signal });
  abort.abort("enough");
  core.answers(2, position(1));
  await assert.rejects(aborted, (reason) => reason === "enough");
  assert.deepEqual(core.only("cancel"), [["cancel", 2]]);
  core.lost();
  await assert.rejects(client.publish("room:1", 1, { offline: "fail" }), { name: "ChannelError", code: "connection_lost" });
  await assert.rejects(client.publish("room:1", 1, { signal: AbortSignal.abort("no") }), (reason) => reason === "no");
  core.answers(1, position(1));
  assert.equal(await waiting, at(1));
  core.throws.request = failure("too_large");
  await assert.rejects(client.publish("room:1", 1), { name: "ChannelError", code: "too_large" });
  await assert.rejects(client.publish("room:1", 1n), { name: "ChannelError", code: "unreadable" });
  const open = client.publish("room:1", 1);
  client.close();
  core.closed();
  await assert.rejects(open, { name: "ChannelError", code: "closed" });
});

test("volatile goes out at once or not at all, and comes without a position", async () => {
  const around = environment();
  const client = new MoorlineClient(settings, around);
  assert.equal(client.publish("room:1", { n: 0 }, { volatile: true }), undefined);
  await turn();
  const { core } = around;
  const room = client.topic("room:1");
  room.publish({ n: 1 }, { volatile: true });
  assert.deepEqual(core.only("volatile"), [["volatile", TOPIC, "room:1", { n: 1 }]]);
  core.throws.volatile = failure("too_large");
  assert.throws(() => room.publish({ n: 1 }, { volatile: true }), { name: "ChannelError", code: "too_large" });
  assert.throws(() => room.publish(1n, { volatile: true }), { name: "ChannelError", code: "unreadable" });
  for (const more of [{ timeoutMs: 1 }, { idempotencyKey: "k" }, { offline: "queue" }, { signal: AbortSignal.abort() }]) {
    assert.throws(() => room.publish(1, { volatile: true, ...more }), { code: "invalid_option" });
  }
  core.opens(1);
  core.flashes(1, 5);
  const { value } = await room[Symbol.asyncIterator]().next();
  assert.deepEqual(value, { data: { n: 5 }, from: { member: "b0", subject: "bob" }, position: undefined, at: 5, recovered: false });
  room.close();
  assert.equal(room.publish(1, { volatile: true }), undefined);
  assert.equal(core.only("volatile").length, 2);
  client.close();
});

test("sendTo takes an id or a member, and direct is heard by everybody who follows the name", async () => {
  const { client, core, room } = await following();
  const [quiet, other] = [client.topic("room:1", { echo: false }), client.topic("room:2")];
  const heard = [];
  for (const [name, topic] of Object.entries({ room, quiet, other })) topic.on("direct", (message) => heard.push([name, message]));
  core.members(1, true, { id: "00000000000000ff" });
  const sending = [room.sendTo("0102030405060708", "psst"), room.sendTo(room.members.current[0], "psst")];
  assert.deepEqual(core.only("request").map(([, , what, , { target, body }]) => [what, target, body]), [
    [2, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), "psst"], [2, Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 255), "psst"],
  ]);
  core.answers(1, new Uint8Array());
  core.refuses(2, "no_such_member");
  assert.equal(await sending[0], undefined);
  await assert.rejects(sending[1], { name: "ChannelError", code: "no_such_member" });
  for (const odd of ["", "zz", undefined, null, "0102030405060708ff"]) await assert.rejects(room.sendTo(odd, 1), { code: "no_such_member" });
  core.host.onDirect(TOPIC, "room:1", 7, "b0", "bob", 1, bytes("hello"));
  core.host.onDirect(4, "room:2", 7, "b0", "bob", 1, bytes("not a topic"));
  const message = { data: "hello", from: { member: "b0", subject: "bob" }, at: 7 };
  assert.deepEqual(heard, [["room", message], ["quiet", message]]);
});

test("history is a page of older messages, and reads nothing of what comes", async () => {
  const { client, core, room } = await following();
  const asking = room.history({ before: at(9), limit: 2, timeoutMs: 500 });
  const [[, , what, , { target, count, body }]] = core.only("request");
  assert.deepEqual([what, target, count, body], [4, position(9), 2, new Uint8Array()]);
  core.answers(1, bytes([true, 7, 8]));
  const { messages, more } = await asking;
  assert.deepEqual(messages.map(({ data, position, recovered }) => [data.n, position, recovered]), [[7, at(7), true], [8, at(8), true]]);
  assert.equal(more, true);
  const newest = room.history();
  assert.deepEqual([core.only("request")[1][4].target, core.only("request")[1][4].count], [undefined, 50]);
  core.answers(2, bytes([false]));
  assert.deepEqual(await newest, { messages: [], more: false });
  for (const options of [{ before: "x" }, { limit: 0 }, { limit: 257 }, { before: 7 }]) {
    await assert.rejects(room.history(options), { code: "invalid_option" });
  }
  const late = room.history();
  core.answers(3, bytes([false]));
  client.close();
  await assert.rejects(late, { code: "closed" });
});

test("names and options are looked at before anything is sent", async () => {
  const { client, core } = await opened();
  for (const name of ["", 7, undefined, "a\nb", "ä".repeat(101)]) {
    assert.throws(() => client.topic(name), { name: "ChannelError", code: "invalid_name" });
    assert.throws(() => client.publish(name, 1, { volatile: true }), { code: "invalid_name" });
    await assert.rejects(client.publish(name, 1), { name: "ChannelError", code: "invalid_name" });
  }
  const wrong = [
    { history: 257 }, { history: -1 }, { history: 1.5 }, { echo: 1 }, { members: "yes" }, { since: "here" }, { buffer: 0 },
    { buffer: 65_537 }, { overflow: "wait" }, { signal: 1 }, { presence: 1n }, { presence: "x".repeat(4_095) }, { hystory: 1 },
  ];
  for (const options of wrong) assert.throws(() => client.topic("room:1", options), { code: "invalid_option" }, JSON.stringify(Object.keys(options)));
  await assert.rejects(client.publish("room:1", 1, { volatil: true }), { code: "invalid_option", remedy: /`volatile`/ });
  assert.deepEqual(core.only("follow", "request", "volatile"), []);
});

test("session.member is this client among the members", async () => {
  const { client, core, room } = await following();
  assert.equal(client.session.member, ME);
  core.connected({ ...session, id: "s2", member: "00000000000000bb" });
  core.members(1, true, { id: ME }, { id: "00000000000000bb" });
  assert.deepEqual(room.members.current.map(({ me }) => me), [false, true]);
});

test("synced says that all has come that was there, on this connection, and not while it is paused", async () => {
  const { core, room } = await following({ history: 2, buffer: 2 });
  const seen = [];
  room.subscribe(({ status, synced }) => seen.push([status, synced]));
  core.recalls(1, 1, 2);
  assert.equal(await room.ready(), room, "it is open, and its history still comes");
  assert.equal(room.current.synced, false);
  core.host.onCaughtUp(1);
  const loop = room[Symbol.asyncIterator]();
  core.tells(1, 3);
  assert.deepEqual(await take(loop, 2), [1, 2]);
  core.opens(2, "recovered", 2);
  core.recalls(2, 3);
  core.host.onCaughtUp(2);
  core.lost();
  core.opens(2, "recovered", 3);
  core.host.onCaughtUp(2);
  room.close();
  assert.deepEqual(seen, [
    ["open", true], ["open", false], ["open", false], ["open", true], ["opening", false], ["open", false], ["open", true],
    ["closed", false],
  ]);
});

// The server leaves out what is of this session, but for what was there when the topic was begun: another object of this
// client may have written it. Followed again without a word of that, the rest of it never came.
test("regression: without echo, what is followed again in the middle of its past still gets this client's own of it", async () => {
  const { client, core, room } = await following({ echo: false, history: 9, buffer: 1 });
  core.opens(1, "new", 0, 9);
  const loop = room[Symbol.asyncIterator]();
  core.recalls(1, 1, 2);
  await take(loop, 1);
  const again = { ...PLAIN, history: 9, quiet: true, since: position(1), past: 9, instead: 1 };
  assert.deepEqual(core.only("follow").at(-1)[3], again);
  core.opens(2, "recovered", 1, 9);
  client.topic("room:1", { echo: false, presence: "here" });
  assert.equal(core.only("follow").at(-1)[3].past, 9, "also where it is for another reason");
});

// Its channel was closed and opened again, and the others saw it leave and come back.
test("regression: a member whose topic is paused stays one, and sees the others", async () => {
  const { core, room } = await following({ buffer: 1, presence: "first" });
  const loop = room[Symbol.asyncIterator]();
  core.tells(1, 1, 2);
  core.members(1, true, { id: ME });
  assert.deepEqual(room.members.current.map(({ id }) => id), [ME]);
  const shown = room.setPresence("here");
  assert.deepEqual(core.only("request").at(-1).slice(0, 4), ["request", TOPIC, 3, "room:1"]);
  core.answers(1, new Uint8Array());
  await shown;
  await take(loop, 1);
  core.members(2, true, { id: ME }, { id: "b0" });
  assert.deepEqual(room.members.current.map(({ id }) => id), [ME, "b0"]);
  assert.deepEqual(core.only("unfollow"), []);
});

test("what is refused while a topic is paused ends it", async () => {
  const { core, room } = await following({ buffer: 1 });
  const loop = room[Symbol.asyncIterator]();
  core.tells(1, 1, 2);
  core.host.onChannelClosed(1, failure("forbidden"));
  assert.equal(room.current.status, "closed");
  assert.deepEqual(await take(loop, 1), [1]);
  await assert.rejects(loop.next(), { code: "forbidden" });
  assert.deepEqual([core.only("follow").length, core.only("unfollow")], [1, []]);
});

// It was told at once, as an open topic's, although the server knew nothing of it.
test("regression: what is shown first while a topic is paused is shown when the server has it", async () => {
  const { core, room } = await following({ buffer: 1 });
  const loop = room[Symbol.asyncIterator]();
  core.tells(1, 1, 2);
  let isShown = false;
  const shown = room.setPresence("here").then(() => (isShown = true));
  await turn();
  assert.equal(isShown, false);
  await take(loop, 1);
  assert.deepEqual(core.only("follow").at(-1)[3].data, "here");
  await turn();
  assert.equal(isShown, false, "it is asked for, and not open");
  core.opens(2, "recovered", 1);
  await shown;
  assert.deepEqual(core.only("request"), []);
});

// A request went out before the topic was open again, and was refused: the server knew of no such member.
test("regression: what is shown while a topic is followed again is opened with", async () => {
  const { client, core, room } = await following({ buffer: 1, presence: "first" });
  const loop = room[Symbol.asyncIterator]();
  core.tells(1, 1, 2);
  await take(loop, 1);
  client.topic("room:1", { presence: "second" });
  assert.deepEqual([core.only("request"), core.only("follow").at(-1)[3].data], [[], "second"]);
});

// After every cut all of them were other objects, and every list of members on the page was drawn anew.
test("regression: members that are told again as they were are the same, and so is the list of them", async () => {
  const { core, room } = await following();
  const heard = [];
  room.members.subscribe((members) => heard.push(members));
  const [bob, ann] = [{ id: "b0", data: { name: "Bob" } }, { id: ME }];
  core.members(1, true, bob, ann);
  const before = room.members.current;
  core.lost();
  core.opens(1, "recovered", 0);
  core.members(1, true, bob, ann);
  assert.equal(room.members.current, before);
  core.members(1, false, ann);
  assert.deepEqual(heard, [before]);
  core.members(1, true, { ...bob, data: { name: "Rob" } }, ann);
  assert.equal(room.members.current[1], before[1]);
  assert.equal(room.members.current[0].data.name, "Rob");
  core.members(1, true, ann);
  assert.deepEqual(room.members.current, [before[1]]);
});
