import type { Encoding } from "./boundary.js";
import { CallError } from "./errors.js";

const BYTES = 0;
const JSON_TEXT = 1;

export interface Payload {
  encoding: Encoding;
  body: Uint8Array;
}

/** A `Uint8Array` goes as it is; everything else as JSON, where no value at all is `null`. */
export function encode(value: unknown): Payload {
  switch (binaryKind(value)) {
    case "Uint8Array":
      return { encoding: BYTES, body: value as Uint8Array };
    case undefined:
      return { encoding: JSON_TEXT, body: new TextEncoder().encode(stringify(value)) };
    default:
      // JSON would turn these into `{}` or an object of indices without a word.
      throw new CallError("unreadable", `${binaryKind(value)} has no JSON form`, {
        remedy: "Wrap binary data in a Uint8Array: new Uint8Array(buffer).",
      });
  }
}

/** The value that {@link encode} was given on the other side. */
export function decode(encoding: Encoding, body: Uint8Array): unknown {
  if (encoding === BYTES) return body;
  if (encoding !== JSON_TEXT) throw new CallError("unreadable", `Unknown payload encoding ${encoding}`);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (cause) {
    throw new CallError("unreadable", "The payload is not valid JSON", { cause });
  }
}

export function isSame(one: Payload, other: Payload): boolean {
  return one.encoding === other.encoding && areSame(one.body, other.body);
}

export function areSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

function stringify(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value === undefined ? null : value);
  } catch (cause) {
    throw new CallError("unreadable", `The value has no JSON form: ${(cause as Error).message}`, { cause });
  }
  if (text === undefined) throw new CallError("unreadable", `A ${typeof value} has no JSON form`);
  return text;
}

// By tag, not by `instanceof`: bytes may come from another realm (an iframe, a test runner).
function binaryKind(value: unknown): string | undefined {
  if (ArrayBuffer.isView(value)) return (value as Uint8Array)[Symbol.toStringTag] ?? "DataView";
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  return tag === "ArrayBuffer" || tag === "SharedArrayBuffer" || tag === "Blob" ? tag : undefined;
}
