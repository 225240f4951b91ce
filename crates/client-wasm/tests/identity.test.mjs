import assert from "node:assert/strict";
import { test } from "node:test";

import { PLAIN, record, WELCOME, client, connected, told } from "./play.mjs";

const has = (sent, token) => Buffer.from(sent).includes(token);

test("what is shown before the start and between connections stands in the next hello, and its welcome is the answer", async () => {
  const { core, sockets, of } = client({ options: PLAIN });
  const first = core.authenticate("first.token");
  core.start();
  sockets[0].onopen({});
  assert.ok(has(sockets[0].sent[0], "first.token"));
  sockets[0].receive(record(WELCOME));
  sockets[0].end();
  const second = core.authenticate("second.token");
  assert.equal(sockets.length, 2, "at once");
  sockets[1].onopen({});
  assert.ok(has(sockets[1].sent[0], "second.token"));
  sockets[1].receive(record(WELCOME));
  await told();
  assert.deepEqual(of("onAuthenticated").map(([id, admission]) => [id, admission !== undefined]), [[first, true], [second, true]]);
  core.free();
});

test("nothing is shown while welcome is on its way", async () => {
  const { core, sockets } = client({ options: PLAIN });
  core.start();
  sockets[0].onopen({});
  assert.throws(() => core.authenticate("late"), ({ code }) => code === "connection_lost");
  core.free();
});

test("what was not sent can be taken back", async () => {
  const { core, sockets } = client({ options: PLAIN });
  const id = core.authenticate("a.token");
  assert.equal(core.withdraw(id), true);
  core.start();
  sockets[0].onopen({});
  assert.ok(!has(sockets[0].sent[0], "a.token"));
  core.free();
  const it = connected();
  assert.equal(it.core.withdraw(it.core.authenticate("b.token")), false);
  it.core.free();
});
