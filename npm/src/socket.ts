import type { WebSocketClass } from "./connect-types.js";
import { ConnectError } from "./errors.js";

/** How an entry comes to a WebSocket on a platform that may have none. */
export type ImportWebSocket = () => Promise<WebSocketClass>;

/**
 * The WebSocket to use: the option's, the platform's, or the one that the entry imports.
 *
 * @throws ConnectError `no_websocket`
 */
export async function findWebSocket(
  option: WebSocketClass | undefined,
  importWebSocket?: ImportWebSocket,
): Promise<WebSocketClass> {
  const present = option ?? (globalThis.WebSocket as WebSocketClass | undefined);
  if (present) return present;
  if (!importWebSocket) throw new ConnectError("no_websocket");
  try {
    return await importWebSocket();
  } catch (cause) {
    throw new ConnectError("no_websocket", undefined, { cause });
  }
}
