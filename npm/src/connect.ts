import { MoorlineClient } from "./client.js";
import type { Client } from "./client-types.js";
import type { ConnectOptions, PreloadOptions } from "./connect-types.js";
import { ConnectError } from "./errors.js";
import { loadCore } from "./instance.js";
import { checkConnectOptions, checkPreloadOptions } from "./options.js";
import { settingsFrom } from "./settings.js";
import { Settlement } from "./settlement.js";
import { findWebSocket, type ImportWebSocket } from "./socket.js";
import type { LocateWasm } from "./wasm.js";

/** The body of every entry's `connect`; they differ in how they find the wasm, and Node's also in its sockets. */
export function connectWith(
  locate: LocateWasm,
  url?: string | URL,
  options?: ConnectOptions,
  importWebSocket?: ImportWebSocket,
): Client<any> {
  const { wasm = locate, webSocket, ...rest } = checkConnectOptions(options);
  return new MoorlineClient(settingsFrom(url, rest), {
    findWebSocket: () => findWebSocket(webSocket, importWebSocket),
    loadCore: () => loadCore(wasm),
  });
}

/** The body of every entry's `preload`. */
export function preloadWith(locate: LocateWasm, options?: PreloadOptions): Promise<void> {
  const { wasm = locate, timeoutMs = Infinity, signal } = checkPreloadOptions(options);
  const timedOut = (): ConnectError => new ConnectError("timeout", `The wasm was not loaded within ${timeoutMs} ms`);
  const settlement = new Settlement<void>({ timeoutMs, signal, timedOut });
  loadCore(wasm).then(() => settlement.resolve(), (error) => settlement.reject(error));
  // Most callers do not wait for it, and the client that needs the wasm reports what is wrong.
  settlement.promise.catch(() => {});
  return settlement.promise;
}
