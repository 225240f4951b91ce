/**
 * `moorline` in Node: the wasm is read from the package's own folder.
 *
 * @module
 */
import { readFile } from "node:fs/promises";

import { connectWith, preloadWith } from "./connect.js";
import type { Connect, Preload } from "./types.js";

export * from "./exports.js";

/** Returns a client at once, which connects by itself after the current task. See {@link Connect}. */
export const connect: Connect = (url, options) => connectWith(locate, url, options);

/** Loads the wasm before there is a client. See {@link Preload}. */
export const preload: Preload = (options) => preloadWith(locate, options);

function locate(): Promise<Uint8Array> {
  return readFile(new URL("./core.wasm", import.meta.url));
}
