/** Claims about the public types, checked by tsc alone: what compiles must, and each `@ts-expect-error` must not. */
import {
  ChannelError, connect, Fail, MoorlineError, preload, type Client, type Direct, type GapReason, type Identity, type Member,
  type Position, type Session, type Status, type Topic, type TopicState,
} from "moorline";
import { connect as connectInline } from "moorline/inline";
import { connect as connectSlim, preload as preloadSlim } from "moorline/slim";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
/** Compiles only if the value has exactly the type `T`. */
declare function exactly<T>(): <U>(value: U, ...proof: Same<T, U> extends true ? [] : ["another type"]) => void;

interface Move { from: string; to: string }

/** An interface with named sections, as `moorline types` writes it, and one section of a later version, `feeds`. */
interface Calls {
  say(message: { room: string; text: string }): { id: number };
  now(): number;
  search(query?: { text: string }): Promise<string[]>;
  upload(file: Uint8Array): void;
}

interface Streams {
  ticks(options: { everyMs: number }): number;
  rows(): AsyncIterable<{ id: number }>;
}
interface Api {
  calls: Calls;
  streams: Streams;
  notifies: { cursor: { x: number; y: number }; poke: void };
  handles: { pickMove(board: string[]): Move; forget(): void; moves(): AsyncIterable<Move> };
  listens: { chat: { from: string; text: string } };
  topics: Topics;
  feeds: { "orders:{id}": Move };
}

interface Line { text: string }
interface Topics {
  "room:{id}": Line;
  "room:staff": { text: string; secret: boolean };
  "game:{id}/moves/{round}": Move;
  "notes/**": string;
  "log/*": number;
  ticks: void;
}

const client = connect<Api>("/moorline", { serverKey: ["mlpub_a", "mlpub_b"], callTimeoutMs: Infinity });
exactly<Client<Api>>()(client);
exactly<Status>()(client.status);
exactly<Session | undefined>()(client.session);

// Calls: argument, result, and whether the argument may be left out.
exactly<Promise<{ id: number }>>()(client.call("say", { room: "lobby", text: "hi" }, { timeoutMs: 1_000 }));
exactly<Promise<number>>()(client.call("now"));
exactly<Promise<number>>()(client.call("now", undefined, { signal: AbortSignal.abort() }));
exactly<Promise<string[]>>()(client.call("search"));
exactly<Promise<void>>()(client.call("upload", new Uint8Array()));
// @ts-expect-error: no such call
client.call("sya", { room: "lobby", text: "hi" });
// @ts-expect-error: the argument is required
client.call("say");
// @ts-expect-error: a part of the argument is missing
client.call("say", { room: "lobby" });
// @ts-expect-error: it takes no argument
client.call("now", 1);
// @ts-expect-error: the option is timeoutMs
client.call("now", undefined, { timeout: 1 });

// Notifications out.
client.notify("cursor", { x: 1, y: 2 }, { volatile: true });
client.notify("poke");
// @ts-expect-error: y is missing
client.notify("cursor", { x: 1 });
// @ts-expect-error: it is a call, not a notification
client.notify("say", { room: "lobby", text: "hi" });

exactly<void>()(client.notify("poke", undefined, { volatile: true, offline: "fail" }));
exactly<Promise<void>>()(client.notify("poke", undefined, { acknowledged: true, timeoutMs: 5, signal: AbortSignal.abort() }));
exactly<Promise<void>>()(client.notify("cursor", { x: 1, y: 2 }, { acknowledged: true }));
// @ts-expect-error: what is volatile is not acknowledged
client.notify("poke", undefined, { acknowledged: true, volatile: true });
// @ts-expect-error: there is nothing to wait for
client.notify("poke", undefined, { timeoutMs: 5 });

// Calls that can be repeated, and streams.
client.call("now", undefined, { idempotencyKey: "a", offline: "queue" });
exactly<AsyncIterableIterator<number>>()(client.stream("ticks", { everyMs: 5 }, { buffer: 8, timeoutMs: 5 }));
exactly<AsyncIterableIterator<{ id: number }>>()(client.stream("rows"));
// @ts-expect-error: the argument is required
client.stream("ticks");
// @ts-expect-error: it is a call, not a stream
client.stream("now");
async function reading(): Promise<void> {
  for await (const tick of client.stream("ticks", { everyMs: 5 })) exactly<number>()(tick);
}
void reading;

// Topics: the name gives the message, by the pattern that is about it.
const room = client.topic("room:1", { history: 50, presence: { name: "ann" }, overflow: "drop" });
exactly<Topic<Line>>()(room);
exactly<Topic<{ text: string; secret: boolean }>>()(client.topic("room:staff"));
exactly<Topic<Move>>()(client.topic("game:7/moves/1"));
exactly<Topic<string>>()(client.topic("notes/a/b:c"));
exactly<Topic<number>>()(client.topic("log/a"));
exactly<Topic<void>>()(client.topic("ticks"));
declare const anywhere: string;
exactly<Topic<Line>>()(client.topic(`room:${anywhere}`));
exactly<Topic<never>>()(client.topic("room:1:2"));
exactly<Topic<never>>()(client.topic("room:"));
exactly<Topic<never>>()(client.topic("game:7/8/moves/1"));
// @ts-expect-error: no such topic
client.topic("rooms:1");
// @ts-expect-error: no such topic
client.topic(anywhere);
// @ts-expect-error: the option is history
client.topic("room:1", { hystory: 50 });
// @ts-expect-error: nothing waits without end
client.topic("room:1", { overflow: "wait" });
async function chat(): Promise<void> {
  for await (const { data, from, position, at, recovered, gap } of await room.ready({ timeoutMs: 5 })) {
    exactly<Line>()(data);
    exactly<string>()(from.member + from.subject);
    exactly<Position | undefined>()(position);
    exactly<number>()(at);
    exactly<boolean>()(recovered);
    exactly<GapReason | undefined>()(gap);
  }
  const { messages, more } = await room.history({ before: (await room.publish({ text: "hi" })), limit: 5 });
  for (const older of messages) exactly<Line>()(older.data);
  exactly<boolean>()(more);
  exactly<void>()(await room.sendTo(room.members.current[0]!, { any: "thing" }, { timeoutMs: 5 }));
  exactly<void>()(await room.setPresence({ name: "bob" }));
}
void chat;
exactly<TopicState>()(room.current);
exactly<() => void>()(room.subscribe(({ status }) => exactly<"opening" | "open" | "closed">()(status)));
exactly<readonly Member[]>()(room.members.current);
exactly<() => void>()(room.members.subscribe((members) => exactly<readonly Member[]>()(members)));
room.on("message", ({ data }) => exactly<Line>()(data));
room.on("direct", (message) => exactly<Direct>()(message));
room.on("gap", (gap) => exactly<GapReason>()(gap));
// @ts-expect-error: no such event
room.on("mesage", () => {});
exactly<Promise<Position>>()(client.publish("room:1", { text: "hi" }, { idempotencyKey: "k" }));
exactly<Promise<Position>>()(client.publish("ticks"));
exactly<void>()(client.publish("room:1", { text: "hi" }, { volatile: true }));
exactly<void>()(room.publish({ text: "hi" }, { volatile: true }));
// @ts-expect-error: the message has another shape
client.publish("room:1", { txt: "hi" });
// @ts-expect-error: the message is required
client.publish("room:1");
// @ts-expect-error: the message has another shape
void room.publish("hi");
// @ts-expect-error: nobody waits for what is volatile
client.publish("room:1", { text: "hi" }, { volatile: true, timeoutMs: 5 });
client.publish("room:1", { text: "hi" }).catch((error) => error instanceof ChannelError);

// Handlers of the server's calls.
const dispose: () => void = client.handle("pickMove", (board, { signal, client: same }) => {
  exactly<string[]>()(board);
  exactly<AbortSignal>()(signal);
  exactly<Client<Api>>()(same);
  if (board.length === 0) throw new Fail("no_move", "The game is over", { data: { board } });
  return { from: "a", to: "b" };
});
dispose();
client.handle("pickMove", async () => ({ from: "a", to: "b" }));
client.handle("forget", () => {});
client.handle("moves", async function* () { yield { from: "a", to: "b" }; });
// @ts-expect-error: the items have another shape
client.handle("moves", async function* () { yield 1; });
// @ts-expect-error: the answer has another shape
client.handle("pickMove", () => ({ from: "a" }));
// @ts-expect-error: no such call of the server's
client.handle("pick", () => {});

// Notifications in, and events.
client.listen("chat", ({ from, text }) => exactly<string>()(from + text));
// @ts-expect-error: no such part
client.listen("chat", ({ sender }) => sender);
client.on("status", (status) => exactly<Status>()(status));
client.on("session", (session) => exactly<Session>()(session));
client.on("error", (error) => exactly<MoorlineError>()(error));
client.on("reset", ({ reason, unconfirmed }) => {
  exactly<"expired" | "overflow" | "restart" | "unknown">()(reason);
  for (const { kind, name } of unconfirmed) {
    exactly<"call" | "notify">()(kind);
    exactly<string>()(name);
  }
});
client.on("goaway", ({ retryAfterMs }) => exactly<number | undefined>()(retryAfterMs));
exactly<number | undefined>()(client.serverTimeMs());
exactly<number | undefined>()(client.stats().offsetMs);
exactly<boolean | undefined>()(client.session?.resumed);
// @ts-expect-error: no such event
client.on("stauts", () => {});

// Waiting and ending.
exactly<Promise<Session>>()(client.ready({ timeoutMs: 5_000 }));
exactly<Promise<void>>()(client.close());
exactly<Promise<void>>()(preload());
async function scoped(): Promise<void> {
  using brief = connect();
  using briefly = brief.topic("room:1");
  briefly.close();
  await using polite = connect();
  brief.ping();
  polite.ping();
}
void scoped;

// Without an Api anything goes, also callbacks that say what they expect.
const untyped = connect();
untyped.call("anything", { at: "all" }).then((result) => result.some.thing);
untyped.handle("anything", (data: { n: number }) => data.n + 1);
untyped.listen("anything", (data: { text: string }) => data.text);
untyped.notify("anything");
untyped.notify("anything", 1, { acknowledged: true }).then(() => {});
untyped.handle("anything", async function* () { yield 1; });
void (async () => { for await (const item of untyped.stream("anything")) item.some.thing; });
untyped.publish("anything", { some: "thing" }).then((position) => exactly<Position>()(position));
exactly<Topic<any>>()(untyped.topic("anything"));
untyped.topic(anywhere).on("message", ({ data }) => data.some.thing);

// An Api with one section declares nothing of the others.
const oneWay = connect<{ calls: { now(): number } }>();
// @ts-expect-error: no notifications are declared
oneWay.notify("poke");
// @ts-expect-error: no topics are declared
oneWay.topic("room:1");

// Any client can be given to code that wants only the untyped part of it.
function badge(some: Pick<Client, "status" | "on" | "close">): void { void some; }
badge(client);

// Errors.
declare const thrown: unknown;
if (MoorlineError.is(thrown)) {
  exactly<string>()(thrown.remedy);
  exactly<unknown>()(thrown.data);
  switch (thrown.code) {
    case "timeout":
    case "name_required": // the application's own
      break;
  }
}
// @ts-expect-error: the helper of these tests does find a wrong type
exactly<number>()("text");

// Options.
// @ts-expect-error: no such option
connect("/moorline", { servrKey: "mlpub_a" });
// @ts-expect-error: nothing is dropped without a word
connect("/moorline", { offline: "drop" });
// @ts-expect-error: no such cipher
connect("/moorline", { encryption: "aes" });
// @ts-expect-error: not an Api
connect<{ calls: 1 }>();

// Who one is, as npm/README.md has it.
const signedIn = connect("wss://app.example.com/moorline", {
  token: async ({ reason, clientKey, signal }) => {
    exactly<"connect" | "reconnect" | "expired" | "expiring">()(reason);
    const body = JSON.stringify({ reason, clientKey });
    const response = await fetch("/session/token", { method: "POST", body, signal });
    if (!response.ok) throw new Error(`no token: ${response.status}`);
    return response.text();
  },
});
signedIn.on("identity", ({ subject, role, scopes }) => {
  exactly<string>()(subject);
  exactly<string | undefined>()(role);
  exactly<readonly string[] | undefined>()(scopes);
});
exactly<Promise<Identity>>()(signedIn.authenticate({ auth: { name: "ann" } }));
exactly<Identity | undefined>()(signedIn.identity);
connect("/moorline", { token: () => "a token", auth: new Uint8Array(8), sharedKey: "mlkey_a" });
// @ts-expect-error: a token is a text
connect("/moorline", { token: () => 7 });
// @ts-expect-error: no such thing to show
void signedIn.authenticate({ password: "swordfish" });

// Entries: the same client, and moorline/slim asks for the wasm.
exactly<Client<Api>>()(connectInline<Api>());
exactly<Client<Api>>()(connectSlim<Api>(undefined, { wasm: fetch("/core.wasm") }));
exactly<Promise<void>>()(preloadSlim({ wasm: new Uint8Array() }));
// @ts-expect-error: where is the wasm?
connectSlim("/moorline", {});
// @ts-expect-error: where is the wasm?
preloadSlim({});
