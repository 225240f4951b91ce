/**
 * `moorline/inline`: the wasm travels within the JavaScript, for bundlers and hosts that ship no other files.
 *
 * @module
 */
import { connectWith, preloadWith } from "./connect.js";
import { gzippedBase64 } from "./embedded.js";
import type { Connect, Preload } from "./client-types.js";

export * from "./exports.js";

/** Returns a client at once, which connects by itself after the current task. See {@link Connect}. */
export const connect: Connect = (url, options) => connectWith(locate, url, options);

/** Loads the wasm before there is a client. See {@link Preload}. */
export const preload: Preload = (options) => preloadWith(locate, options);

function locate(): Promise<ArrayBuffer> {
  const gzipped = Uint8Array.from(atob(gzippedBase64), (character) => character.charCodeAt(0));
  const bytes = new Blob([gzipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(bytes).arrayBuffer();
}
