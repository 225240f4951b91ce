/**
 * A line between client and server that breaks: at any byte, on both sides or on one of them, after a stall or without.
 *
 * It knows nothing of WebSockets. What it does follows from its seed and from how the bytes happen to come.
 */
import { once } from "node:events";
import { connect, createServer } from "node:net";

/** How a connection ends when its bytes are used up. */
const ENDS = ["both", "near", "far", "stall"];
/** What one carries before that, at most: too little for a handshake, or enough for parts of large messages. */
const LIVES = [800, 5_000, 40_000, 160_000];
/** How long who waits at the dead end of a half-open line hears nothing. */
const STALL_MS = 60;

/**
 * @param serverUrl `ws://…`
 * @param cuts how many connections end by themselves; later ones last
 * @param lives as {@link LIVES}
 */
export async function startCutter(serverUrl, { seed = 1, cuts = 0, lives = LIVES } = {}) {
  const { port } = new URL(serverUrl);
  const random = mulberry32(seed);
  const pick = (values) => values[Math.floor(random() * values.length)];
  const lines = new Set();
  const done = { cuts: 0, lines: 0 };
  let stalled = false;
  let blocked = false;

  const server = createServer((near) => {
    if (blocked) return near.destroy();
    const far = connect(Number(port), "127.0.0.1");
    const line = { near, far };
    lines.add(line);
    done.lines++;
    let left = done.cuts < cuts ? 1 + Math.floor(random() * pick(lives)) : Infinity;
    const end = () => {
      done.cuts++;
      const how = pick(ENDS);
      if (how === "both" || how === "near") near.destroy();
      if (how === "both" || how === "far") far.destroy();
      if (how === "stall") [near, far].forEach((socket) => socket.pause());
      // The server may think that the line lasts, until it hears of the next one. The client cannot know so soon.
      if (how === "far" || how === "stall") setTimeout(() => near.destroy(), STALL_MS);
    };
    const relay = (from, to) => {
      from.on("data", (bytes) => {
        if (left <= 0) return;
        to.write(bytes.subarray(0, left));
        left -= bytes.length;
        if (left <= 0) end();
        else if (!to.destroyed && to.writableNeedDrain) {
          from.pause();
          to.once("drain", () => stalled || from.resume());
        }
      });
      from.on("error", () => {});
      // Half-open lines stay so; a program that ends ends them.
      from.on("close", () => left > 0 && to.destroy());
    };
    relay(near, far);
    relay(far, near);
    near.on("close", () => far.destroyed && lines.delete(line));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const each = (act) => lines.forEach(({ near, far }) => [near, far].forEach(act));
  return {
    url: `ws://127.0.0.1:${server.address().port}/moorline`,
    done,
    /** Ends every connection now. */
    cut: () => each((socket) => socket.destroy()),
    /** Ends every connection, and lets nobody through until `unblock`. */
    block() {
      blocked = true;
      each((socket) => socket.destroy());
    },
    unblock: () => (blocked = false),
    /** What the server says on these connections is lost from now on. It hears everything, and nobody is told. */
    mute: () => lines.forEach(({ far }) => far.removeAllListeners("data").resume()),
    /** Nothing passes any more, and nobody is told. */
    stall() {
      stalled = true;
      each((socket) => socket.pause());
    },
    stop() {
      each((socket) => socket.destroy());
      server.close();
    },
  };
}

/** A small generator with a seed (public domain, Tommy Ettinger). */
export function mulberry32(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
