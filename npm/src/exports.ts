/** What every entry exports beside `connect` and `preload`. */
export { CallError, ConnectError, Fail, MoorlineError } from "./errors.js";
export type { ErrorDetails } from "./errors.js";
export type { ApiShape, UntypedApi } from "./api.js";
export type { Code } from "./codes.gen.js";
export type {
  CallOptions, Client, ClientEvents, ConfirmedNotifyOptions, Connect, ConnectOptions, Goaway, Handler, HandlerContext,
  NotifyOptions, Preload, PreloadOptions, Reset, SendOptions, Session, Stats, Status, StreamOptions, Unconfirmed,
  Unsubscribe, WaitOptions, WasmSource, WebSocketClass,
} from "./types.js";
