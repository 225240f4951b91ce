import type { Position } from "./channel-types.js";
import { base64url } from "./credentials.js";

/** Opaque to everybody but the core: base64url of 8 bytes, a varint and 8 bytes (docs/PROTOCOL.md § Positions). */
const TEXT = /^[\w-]{23,35}$/;

export function isPosition(value: unknown): value is Position {
  // Base64 has no text of such a length.
  return typeof value === "string" && TEXT.test(value) && value.length % 4 !== 1;
}

export const positionFrom: (bytes: Uint8Array) => Position = base64url;

/** The bytes of what {@link isPosition}. */
export function bytesOf(position: Position): Uint8Array {
  const binary = atob(position.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
