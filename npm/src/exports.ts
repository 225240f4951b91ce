/** What every entry exports beside `connect` and `preload`. */
export { AuthError, CallError, ConnectError, Fail, MoorlineError } from "./errors.js";
export type { ErrorDetails } from "./errors.js";
export type { ApiShape, UntypedApi } from "./api.js";
export type { Code } from "./codes.gen.js";
export type {
  AuthenticateOptions, CallOptions, Client, ClientEvents, ConfirmedNotifyOptions, Connect, ConnectOptions, Goaway,
  Handler, HandlerContext, Identity, NotifyOptions, Preload, PreloadOptions, Reset, SendOptions, Session, Stats, Status,
  StreamOptions, TokenProvider, TokenRequest, Unconfirmed, Unsubscribe, WaitOptions, Warning, WasmSource, WebSocketClass,
} from "./types.js";
