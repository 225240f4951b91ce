/**
 * Everything at once: loops that come, read, stop and leave, objects that share a topic and are closed, cuts, a server
 * that forgets, and what is on its way when nobody wants it any more. Whatever happens, a loop gives messages in order,
 * each once, and where one is missing the next one says so. A failure prints its seed.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import { MoorlineClient } from "../dist/client.js";
import { environment, position, settings, turn } from "./fake-core.mjs";

const SEEDS = 150;
const STEPS = 400;
/** What the server keeps. */
const KEPT = 12;

function mulberry32(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The server's and the core's side of one topic whose messages are 1, 2, 3 and so on. */
class World {
  written = 0;
  isConnected = true;
  /** What the core follows: up to where it has told. */
  followed = new Map();
  unfollowed = [];

  constructor(core) {
    this.core = core;
    const [follow, unfollow, hold] = [core.follow.bind(core), core.unfollow.bind(core), core.hold.bind(core)];
    const leave = (id) => {
      this.unfollowed.push([id, this.followed.get(id)]);
      this.followed.delete(id);
    };
    core.follow = (kind, name, history, quiet, members, since, ...rest) => {
      const id = follow(kind, name, history, quiet, members, since, ...rest);
      const instead = rest[3];
      if (instead) leave(instead);
      this.followed.set(id, { history, told: since && numberOf(since), isOpen: false });
      return id;
    };
    core.unfollow = (id) => {
      leave(id);
      unfollow(id);
    };
    core.hold = (id) => {
      const followed = this.followed.get(id);
      this.unfollowed.push([id, { ...followed }]);
      followed.isHeld = true;
      hold(id);
    };
  }

  open(id) {
    const followed = this.followed.get(id);
    if (!followed || !this.isConnected || followed.isOpen || followed.isHeld) return;
    const oldest = Math.max(0, this.written - KEPT);
    const { told, history } = followed;
    followed.isOpen = true;
    followed.head = this.written;
    if (told === undefined || told < oldest) {
      followed.told = Math.max(oldest, this.written - history);
      this.core.opens(id, told === undefined ? "new" : "trimmed", followed.told);
    } else {
      this.core.opens(id, "recovered", told);
    }
  }

  tell(id) {
    const followed = this.followed.get(id);
    if (!followed?.isOpen || followed.isHeld || followed.told >= this.written) return false;
    followed.told++;
    if (followed.told <= followed.head) this.core.recalls(id, followed.told);
    else this.core.tells(id, followed.told);
    return true;
  }

  /** What was on its way when it was unfollowed or held. */
  tellLate([id, followed]) {
    if (followed?.told !== undefined) this.core.tells(id, followed.told + 1);
  }

  cut() {
    this.isConnected = false;
    for (const followed of this.followed.values()) followed.isOpen = false;
    this.core.lost();
  }
}

function numberOf(bytes) {
  for (let n = 0; ; n++) if (String(position(n)) === String(bytes)) return n;
}

/** A loop that is read one by one, and what it must never do. */
class Watched {
  last = undefined;
  pending = undefined;
  isOver = false;

  constructor(loop, overflow, seed) {
    Object.assign(this, { loop, overflow, seed });
  }

  read() {
    if (this.pending || this.isOver) return;
    this.pending = this.loop.next().then(({ value, done }) => {
      this.pending = undefined;
      if (done) this.isOver = true;
      else this.take(value);
    }, (error) => {
      this.pending = undefined;
      this.isOver = true;
      assert.equal(error.code, "overflow", `seed ${this.seed}`);
      assert.equal(this.overflow, "error");
    });
  }

  take({ data: { n }, gap }) {
    const where = `seed ${this.seed}: ${n} after ${this.last}, ${gap}`;
    if (this.last !== undefined) {
      assert.ok(n > this.last, where);
      assert.ok(n === this.last + 1 || gap, where);
      // One that is shared may have been left with a gap by who came before: only pauses lose nothing by themselves.
      if (this.overflow === "pause") assert.notEqual(gap, "overflow", where);
    }
    this.last = n;
  }
}

test("whatever happens, loops give messages in order, each once, or say that some are missing", async () => {
  let pauses = 0;
  for (let seed = 1; seed <= SEEDS; seed++) pauses += await run(seed);
  assert.ok(pauses > SEEDS, `${pauses} pauses`);
});

async function run(seed) {
  const random = mulberry32(seed);
  const below = (n) => Math.floor(random() * n);
  const pick = (values) => values[below(values.length)];
  const around = environment();
  const client = new MoorlineClient(settings, around);
  await turn();
  const world = new World(around.core);
  around.core.connected();
  const rooms = [];
  const loops = [];
  const looping = (room) => {
    const watched = new Watched(room.topic[Symbol.asyncIterator](), room.overflow, seed);
    loops.push(watched);
  };
  const actions = {
    publish: () => world.written++,
    tell: () => { for (const id of [...world.followed.keys()]) for (let n = below(4); n > 0; n--) world.tell(id); },
    open: () => { for (const id of [...world.followed.keys()]) world.open(id); },
    late: () => world.unfollowed.length && world.tellLate(pick(world.unfollowed)),
    cut: () => random() < 0.1 && world.isConnected && world.cut(),
    connect: () => { if (!world.isConnected) { world.isConnected = true; around.core.connected(); } },
    follow: () => {
      if (rooms.length >= 4) return;
      const overflow = pick(["pause", "drop", "error"]);
      rooms.push({ topic: client.topic("room", { buffer: 1 + below(6), overflow, history: below(4) }), overflow });
    },
    close: () => {
      if (random() < 0.9 || rooms.length === 0) return;
      const [room] = rooms.splice(below(rooms.length), 1);
      room.topic.close();
    },
    loop: () => rooms.length && loops.length < 8 && looping(pick(rooms)),
    read: () => loops.length && pick(loops).read(),
    readMore: async () => { for (const loop of loops) loop.read(); await null; },
    leave: () => {
      if (random() < 0.8 || loops.length === 0) return;
      const [loop] = loops.splice(below(loops.length), 1);
      void loop.loop.return();
    },
    yield: async () => { for (let n = 0; n < 4; n++) await null; },
  };
  const names = [...Object.keys(actions), "publish", "publish", "tell", "tell", "open", "read", "readMore", "yield"];
  for (let step = 0; step < STEPS; step++) await actions[pick(names)]();

  // And in the end everybody gets everything, once the line holds and everybody reads.
  actions.connect();
  for (let round = 0; round < 100; round++) {
    actions.open();
    for (const id of [...world.followed.keys()]) world.tell(id);
    for (const loop of loops) loop.read();
    await actions.yield();
  }
  for (const room of rooms) assert.equal(room.topic.current.status, "open", `seed ${seed}`);
  for (const loop of loops) {
    if (!loop.isOver && loop.last !== undefined) assert.equal(loop.last, world.written, `seed ${seed}: it goes on to the end`);
  }
  const pauses = around.core.only("hold").length;
  client.close();
  around.core.closed();
  await turn();
  return pauses;
}
