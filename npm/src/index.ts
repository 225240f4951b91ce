/**
 * `moorline` in browsers: the wasm lies beside this module, as `core.wasm`.
 *
 * @module
 */
import { connectWith, preloadWith } from "./connect.js";
import type { Connect, Preload } from "./client-types.js";

export * from "./exports.js";

/** Returns a client at once, which connects by itself after the current task. See {@link Connect}. */
export const connect: Connect = (url, options) => connectWith(locate, url, options);

/** Loads the wasm before there is a client. See {@link Preload}. */
export const preload: Preload = (options) => preloadWith(locate, options);

// Exactly this expression is what bundlers look for when they decide which files to ship.
function locate(): URL {
  return new URL("./core.wasm", import.meta.url);
}
