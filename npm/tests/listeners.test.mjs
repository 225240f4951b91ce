import assert from "node:assert/strict";
import { test } from "node:test";

import { NamedListeners } from "../dist/listeners.js";

// Every name that had ever been listened to kept an empty set for the life of the client.
test("regression: a name that nobody listens to any more is forgotten", () => {
  const listeners = new NamedListeners();
  for (let room = 0; room < 100; room++) {
    const [first, second] = [listeners.add(`room:${room}`, () => {}), listeners.add(`room:${room}`, () => {})];
    first();
    first();
    assert.equal(listeners.size, 1, "somebody still listens");
    second();
    assert.equal(listeners.size, 0);
  }
});

test("who unsubscribes twice takes nothing from who came to the name since", () => {
  const [listeners, heard] = [new NamedListeners(), []];
  const off = listeners.add("chat", () => heard.push("first"));
  off();
  listeners.add("chat", (text) => heard.push(text));
  off();
  listeners.of("chat").emit("hi");
  assert.deepEqual([heard, listeners.size], [["hi"], 1]);
});
