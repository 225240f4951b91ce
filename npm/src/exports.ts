/** What every entry exports beside `connect` and `preload`. */
export { AuthError, CallError, ChannelError, ConnectError, Fail, MoorlineError } from "./errors.js";
export type { ErrorDetails } from "./errors.js";
export type { ApiShape, UntypedApi } from "./api.js";
export type { Code } from "./codes.gen.js";
export type {
  AppendOptions, RefusedPatch, Store, StoreEvents, StoreOptions, StoreState, StoreUpdate, ValueOptions, WithheldPatches,
} from "./store-types.js";
export type {
  CallOptions, ConfirmedNotifyOptions, NotifyOptions, SendOptions, StreamOptions, WaitOptions,
} from "./call-types.js";
export type { Direct, GapReason, Member, Members, Position, Sender, TopicState } from "./channel-types.js";
export type {
  AuthenticateOptions, Client, ClientEvents, Connect, Goaway, Handler, HandlerContext, Identity, Preload, Reset, Session,
  Stats, Status, Unconfirmed, Warning,
} from "./client-types.js";
export type {
  ConnectOptions, PreloadOptions, TokenProvider, TokenRequest, WasmSource, WebSocketClass,
} from "./connect-types.js";
export type { Unsubscribe } from "./listeners.js";
export type {
  HistoryOptions, HistoryPage, PublishOptions, Topic, TopicEvents, TopicMessage, TopicOptions, VolatileOptions,
} from "./topic-types.js";
