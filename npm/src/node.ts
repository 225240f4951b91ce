/**
 * `moorline` in Node: the wasm is read from the package's own folder.
 *
 * @module
 */
import { readFile } from "node:fs/promises";

import { connectWith, preloadWith } from "./connect.js";
import type { Connect, Preload } from "./client-types.js";
import type { WebSocketClass } from "./connect-types.js";

export * from "./exports.js";

/** Returns a client at once, which connects by itself after the current task. See {@link Connect}. */
export const connect: Connect = (url, options) => connectWith(locate, url, options, importWs);

/** Loads the wasm before there is a client. See {@link Preload}. */
export const preload: Preload = (options) => preloadWith(locate, options);

function locate(): Promise<Uint8Array> {
  return readFile(new URL("./core.wasm", import.meta.url));
}

/** Node 20 has no WebSocket of its own; the package `ws` is optional. */
async function importWs(): Promise<WebSocketClass> {
  // Not written in place, so that no bundler for Node fails over a package that most do not have. Only this entry may
  // do it: bundlers for browsers fold it into `import("ws")`, which they then cannot resolve.
  const name = "ws";
  const ws = await import(/* webpackIgnore: true */ /* @vite-ignore */ name);
  return ws.WebSocket ?? ws.default;
}
