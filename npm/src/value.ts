/**
 * Large values beside a store's log. What is stored under its SHA-256 is
 *
 * ```
 * 00 | value, at most 1 MiB
 * 01 | total (varint) | hash[32] of each chunk      the chunks are stored as values of the first kind, 1 MiB but the last
 * ```
 *
 * The id of a value is the hash of what is stored, in hex. So whoever has the id can check every byte that comes, and
 * nothing that came is believed before: neither a length nor a hash.
 */
import { ChannelError } from "./errors.js";
import { fromHex, sha256, toHex } from "./hash.js";

/** Bytes of a value in one piece. */
export const CHUNK_BYTES = 1024 * 1024;
/** The largest value that is read, if nothing else is said. */
export const DEFAULT_MAX_BYTES = 64 * CHUNK_BYTES;

const HASH_BYTES = 32;
const WHOLE = 0;
const CHUNKED = 1;
/** Chunks that are asked for at once. */
const AT_ONCE = 4;

/** Where stored values are. */
export interface Shelf {
  keep(hash: Uint8Array, stored: Uint8Array): Promise<void>;
  fetch(hash: Uint8Array): Promise<Uint8Array>;
}

/** Stores a value and gives its id. Doing it again, after a failure too, changes nothing. */
export async function putValue(shelf: Shelf, value: Uint8Array): Promise<string> {
  const keep = async (stored: Uint8Array): Promise<Uint8Array> => {
    const hash = await sha256(stored);
    await shelf.keep(hash, stored);
    return hash;
  };
  const whole = (from: number): Uint8Array => join([[WHOLE], value.subarray(from, from + CHUNK_BYTES)]);
  if (value.length <= CHUNK_BYTES) return toHex(await keep(whole(0)));

  const hashes: Uint8Array[] = [];
  // One after the other: more than one would wait in the window of the session anyway.
  for (let from = 0; from < value.length; from += CHUNK_BYTES) hashes.push(await keep(whole(from)));
  // Last, so that whoever finds it finds the chunks.
  return toHex(await keep(join([[CHUNKED], varint(value.length), ...hashes])));
}

/**
 * The value with this id.
 *
 * @throws ChannelError `too_large` above `maxBytes`, `corrupt_value` when what came is not what the id says, and what the
 * shelf throws
 */
export async function getValue(shelf: Shelf, id: string, maxBytes = DEFAULT_MAX_BYTES): Promise<Uint8Array> {
  const hash = fromHex(id, HASH_BYTES);
  if (!hash) {
    throw new ChannelError("invalid_option", "The id of a value is 64 digits in hex", { remedy: "Pass what putValue() gave." });
  }
  const stored = await checked(shelf, hash);
  if (stored[0] === WHOLE && stored.length <= CHUNK_BYTES + 1) return bounded(stored.length - 1, maxBytes) && stored.slice(1);
  if (stored[0] !== CHUNKED) throw corrupt("it has an unknown form");

  const { value: total, end } = readVarint(stored, 1);
  bounded(total, maxBytes);
  const count = Math.ceil(total / CHUNK_BYTES);
  // In one piece where one is enough: a value has one id.
  if (count < 2 || stored.length - end !== count * HASH_BYTES) throw corrupt("its list of chunks does not fit its length");

  const value = new Uint8Array(total);
  let next = 0;
  const read = async (): Promise<void> => {
    while (next < count) {
      const at = next++;
      const from = end + at * HASH_BYTES;
      const chunk = await checked(shelf, stored.subarray(from, from + HASH_BYTES));
      const expected = Math.min(CHUNK_BYTES, total - at * CHUNK_BYTES);
      if (chunk[0] !== WHOLE || chunk.length !== expected + 1) throw corrupt("a chunk of it has another length");
      value.set(chunk.subarray(1), at * CHUNK_BYTES);
    }
  };
  // A failure of one ends the others with what they have under way.
  const failing = (reading: Promise<void>): Promise<void> => reading.catch((error) => { next = count; throw error; });
  await Promise.all(Array.from({ length: AT_ONCE }, () => failing(read())));
  return value;
}

async function checked(shelf: Shelf, hash: Uint8Array): Promise<Uint8Array> {
  const stored = await shelf.fetch(hash);
  if (toHex(await sha256(stored)) !== toHex(hash)) throw corrupt("it has another hash");
  return stored;
}

function bounded(bytes: number, maxBytes: number): true {
  if (bytes <= maxBytes) return true;
  throw new ChannelError("too_large", `The value has ${bytes} bytes, and at most ${maxBytes} are read`, {
    remedy: "Pass a larger maxBytes, if so much is meant to be read.",
  });
}

function corrupt(why: string): ChannelError {
  return new ChannelError("corrupt_value", `The value is not what its id says: ${why}`, {
    remedy: "Put the value again; whoever wrote it stored something else.",
  });
}

function varint(value: number): number[] {
  const bytes = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value % 0x80) | 0x80);
  return [...bytes, value];
}

/** Refuses what is longer than it need be, as everywhere on the wire. */
function readVarint(bytes: Uint8Array, from: number): { value: number; end: number } {
  let value = 0;
  for (let at = from; at < from + 7; at++) {
    const byte = bytes[at];
    if (byte === undefined || (byte === 0 && at > from)) break;
    value += (byte & 0x7f) * 0x80 ** (at - from);
    if (byte < 0x80) return { value, end: at + 1 };
  }
  throw corrupt("its length cannot be read");
}

function join(parts: readonly ArrayLike<number>[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
