import { ConnectError } from "./errors.js";
import type { WebSocketClass } from "./types.js";

/**
 * The WebSocket to use: the option's, the platform's, or in Node 20 that of the optional package `ws`.
 *
 * @throws ConnectError `no_websocket`
 */
export async function findWebSocket(option: WebSocketClass | undefined): Promise<WebSocketClass> {
  const present = option ?? (globalThis.WebSocket as WebSocketClass | undefined);
  if (present) return present;
  if (!globalThis.process?.versions?.node) throw new ConnectError("no_websocket");
  try {
    // Not written in place, so that no bundler looks for a package that most do not have.
    const name = "ws";
    const ws = await import(/* webpackIgnore: true */ /* @vite-ignore */ name);
    return ws.WebSocket ?? ws.default;
  } catch (cause) {
    throw new ConnectError("no_websocket", undefined, { cause });
  }
}
