/** What every entry exports beside `connect` and `preload`. */
export { AuthError, CallError, ChannelError, ConnectError, Fail, MoorlineError } from "./errors.js";
export type { ErrorDetails } from "./errors.js";
export type { ApiShape, UntypedApi } from "./api.js";
export type { Code } from "./codes.gen.js";
export type {
  AppendOptions, RefusedPatch, Store, StoreEvents, StoreOptions, StoreState, StoreUpdate, ValueOptions,
} from "./store-types.js";
export type {
  AuthenticateOptions, CallOptions, Client, ClientEvents, ConfirmedNotifyOptions, Connect, ConnectOptions, Direct, GapReason,
  Goaway, Handler, HandlerContext, HistoryOptions, HistoryPage, Identity, Member, Members, NotifyOptions, Position, Preload,
  PreloadOptions, PublishOptions, Reset, SendOptions, Sender, Session, Stats, Status, StreamOptions, TokenProvider,
  TokenRequest, Topic, TopicEvents, TopicMessage, TopicOptions, TopicState, Unconfirmed, Unsubscribe, VolatileOptions,
  WaitOptions, Warning, WasmSource, WebSocketClass,
} from "./types.js";
