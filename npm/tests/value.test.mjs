import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";

import { digest, sha256, toHex } from "../dist/hash.js";
import { CHUNK_BYTES, getValue, putValue } from "../dist/value.js";

const hashOf = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** A server that checks nothing. */
function shelf() {
  const kept = new Map();
  return {
    kept,
    fetched: [],
    keep: async (hash, stored) => void kept.set(toHex(hash), new Uint8Array(stored)),
    async fetch(hash) {
      this.fetched.push(toHex(hash));
      if (!kept.has(toHex(hash))) throw Object.assign(new Error("gone"), { code: "no_such_value" });
      return kept.get(toHex(hash));
    },
    /** Stores whatever it is given, as if somebody else had. */
    plant(...parts) {
      const stored = Buffer.concat(parts.map((part) => Buffer.from(part)));
      kept.set(hashOf(stored), stored);
      return hashOf(stored);
    },
  };
}

const hexBytes = (hex) => Buffer.from(hex, "hex");

test("a value comes back as it was put, whatever its length", async () => {
  for (const length of [0, 1, 127, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5]) {
    const server = shelf();
    const value = new Uint8Array(randomBytes(length));
    const id = await putValue(server, value);
    assert.deepEqual(await getValue(server, id), value, `${length} bytes`);
    for (const [key, stored] of server.kept) {
      assert.equal(key, hashOf(stored));
      assert.ok(stored.length <= CHUNK_BYTES + 1);
    }
  }
});

test("what is stored has the form that everybody reads", async () => {
  const server = shelf();
  const small = await putValue(server, Uint8Array.of(1, 2, 3));
  assert.equal(small, hashOf(Uint8Array.of(0, 1, 2, 3)));
  const value = Buffer.alloc(CHUNK_BYTES + 2, 7);
  const id = await putValue(server, value);
  const chunk = (from, to) => hexBytes(hashOf(Buffer.concat([Buffer.of(0), value.subarray(from, to)])));
  // 1,048,578 as a varint, seven bits at a time, the lowest first.
  const index = Buffer.concat([Buffer.of(1, 0x82, 0x80, 0x40), chunk(0, CHUNK_BYTES), chunk(CHUNK_BYTES)]);
  assert.deepEqual(Buffer.from(server.kept.get(id)), index);
});

// sds-websocket-server hashed 32 bits of a text and lost 22 bytes of each value between 128 KiB and 1 MiB.
test("regression: values between 128 KiB and 1 MiB come back whole, under a hash of all their bytes", async () => {
  const server = shelf();
  const value = new Uint8Array(randomBytes(200_000));
  const id = await putValue(server, value);
  assert.equal(id.length, 64);
  assert.deepEqual(await getValue(server, id), value);
});

// There a total from the wire was believed, and chunks were kept by their hash without an end.
test("regression: a length that is only claimed allocates nothing", async () => {
  const server = shelf();
  const huge = server.plant([1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f], Buffer.alloc(32));
  await assert.rejects(getValue(server, huge), { code: "too_large" });
  const unfit = server.plant([1, 0x80, 0x80, 0x80, 0x10], Buffer.alloc(32));
  await assert.rejects(getValue(server, unfit), { code: "corrupt_value" });
  assert.equal(server.fetched.length, 2, "no chunk was asked for");
});

test("larger than one reads is refused before its chunks are asked for", async () => {
  const server = shelf();
  const id = await putValue(server, new Uint8Array(3 * CHUNK_BYTES));
  server.fetched.length = 0;
  await assert.rejects(getValue(server, id, 2 * CHUNK_BYTES), { code: "too_large" });
  assert.equal(server.fetched.length, 1);
  const small = await putValue(server, new Uint8Array(11));
  await assert.rejects(getValue(server, small, 10), { code: "too_large" });
});

test("bytes that do not have the hash are not handed on", async () => {
  const server = shelf();
  const value = new Uint8Array(randomBytes(2 * CHUNK_BYTES));
  const id = await putValue(server, value);
  for (const [key, stored] of server.kept) {
    stored[stored.length - 1] ^= 1;
    await assert.rejects(getValue(server, id), { code: "corrupt_value" }, key);
    stored[stored.length - 1] ^= 1;
  }
  assert.deepEqual(await getValue(server, id), value);
});

test("no form but the one is read", async () => {
  const server = shelf();
  const chunk = hexBytes(server.plant([0], Buffer.alloc(CHUNK_BYTES)));
  const short = hexBytes(server.plant([0], Buffer.alloc(10)));
  const nested = hexBytes(server.plant([1, 1], short));
  const twice = [0x80, 0x80, 0x80, 0x01]; // 2 MiB
  for (const [why, ...parts] of [
    ["nothing at all"],
    ["an unknown form", [2, 0]],
    ["no length", [1]],
    ["a length without an end", [1, 0x80]],
    ["an overlong length", [1, 0x80, 0x80, 0x80, 0x81, 0x00], chunk, chunk],
    ["one chunk", [1, 10], short],
    ["no chunk", [1, 0]],
    ["a hash too few", [1, ...twice], chunk],
    ["half a hash", [1, ...twice], chunk, chunk.subarray(0, 16)],
    ["a chunk that is too short", [1, ...twice], chunk, short],
    ["a chunk in chunks", [1, ...twice], chunk, nested],
    ["one piece that should be two", [0], Buffer.alloc(CHUNK_BYTES + 1)],
  ]) {
    await assert.rejects(getValue(server, server.plant(...parts)), { code: "corrupt_value" }, why);
  }
});

test("what the server says of a value that it does not have is told", async () => {
  const server = shelf();
  await assert.rejects(getValue(server, "0".repeat(64)), { code: "no_such_value" });
  for (const id of ["", "0".repeat(63), "G".repeat(64), undefined, 7]) {
    await assert.rejects(getValue(server, id), { code: "invalid_option" });
  }
});

test("a put that failed in between can be done again", async () => {
  const server = shelf();
  const value = new Uint8Array(randomBytes(2 * CHUNK_BYTES + 1));
  let left = 2;
  const failing = { ...server, keep: (hash, stored) => (left-- > 0 ? server.keep(hash, stored) : Promise.reject(new Error("cut"))) };
  await assert.rejects(putValue(failing, value), /cut/);
  assert.equal(server.kept.size, 2, "the list comes last");
  assert.deepEqual(await getValue(server, await putValue(server, value)), value);
});

test("a page that is not secure hashes by itself, and the same", async () => {
  for (const length of [0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 1000, 100_003]) {
    const bytes = new Uint8Array(randomBytes(length + 3)).subarray(3);
    assert.equal(toHex(digest(bytes)), hashOf(bytes), `${length} bytes`);
  }
  const subtle = Object.getOwnPropertyDescriptor(Crypto.prototype, "subtle");
  Object.defineProperty(Crypto.prototype, "subtle", { configurable: true, get: () => undefined });
  try {
    assert.equal(toHex(await sha256(Buffer.from("abc"))), hashOf("abc"));
  } finally {
    Object.defineProperty(Crypto.prototype, "subtle", subtle);
  }
});

test("the constants that are computed are no matter of rounding", () => {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime)) primes.push(n);
  for (const root of [...primes.map(Math.cbrt), ...primes.slice(0, 8).map(Math.sqrt)]) {
    const beyond = (root * 2 ** 32) % 1;
    assert.ok(beyond > 1e-5 && beyond < 1 - 1e-5, "an engine that is off by a bit gets the same 32 bits");
  }
});
