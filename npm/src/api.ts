/**
 * What a page and its server say to each other, as types: the argument of `connect<Api>()`.
 *
 * One rule gives the keys: the section for `client.VERB` is the verb in the third person, with "calls", "handles" and
 * "streams" a function for each name (one of a stream returns its item, or an `AsyncIterable` of it) and "notifies" and
 * "listens" a payload for each name. "topics" has the message for each name or pattern of names, as the server declares
 * them. Sections may be left out, and keys that this version does not know (`feeds`, `states` come later) are ignored.
 *
 * ```ts
 * interface Api {
 *   calls: { say(message: { room: string; text: string }): { id: number }; now(): number };   // client.call
 *   streams: { ticks(options: { everyMs: number }): number };                                  // client.stream
 *   notifies: { cursor: { x: number; y: number } };                                            // client.notify
 *   handles: { pickMove(board: Board): Move };                                                 // client.handle
 *   listens: { chat: { from: string; text: string } };                                         // client.listen
 *   topics: { "room:{id}": { text: string } };                                                 // client.topic
 * }
 * ```
 */
export interface ApiShape {
  /** What the page may call on the server. */
  readonly calls?: object;
  /** What the page may call on the server and gets many answers from. */
  readonly streams?: object;
  /** What the page may tell the server. */
  readonly notifies?: object;
  /** What the server may call on the page. */
  readonly handles?: object;
  /** What the server may tell the page. */
  readonly listens?: object;
  /** What is published to topics and heard there. */
  readonly topics?: object;
}

/**
 * The `Api` of `connect()` without one: any name, any value. It is `any` and not `unknown`, so that a first try needs no
 * casts; with an `Api` nothing is `any`.
 */
export interface UntypedApi {
  readonly calls: Record<string, (data?: any) => any>;
  readonly streams: Record<string, (data?: any) => any>;
  readonly notifies: Record<string, any>;
  readonly handles: Record<string, (data?: any) => any>;
  readonly listens: Record<string, any>;
  readonly topics: Record<string, any>;
}

type Section<A, K extends keyof ApiShape> = A extends { readonly [P in K]: infer S } ? S : Record<never, never>;

/** The names that section `K` of an `Api` declares. */
export type NameIn<A, K extends keyof ApiShape> = keyof Section<A, K> & string;

/** What section `K` declares for the name `N`: a function, or a payload. */
export type Declared<A, K extends keyof ApiShape, N> = N extends keyof Section<A, K> ? Section<A, K>[N] : never;

/** The argument of a declared function; `undefined` if it takes none. */
export type ArgumentOf<F> = F extends (...args: infer P) => unknown
  ? P extends readonly [] ? undefined : P[0]
  : never;

/** The result of a declared function. */
export type ResultOf<F> = F extends (...args: never[]) => infer R ? Awaited<R> : never;

/** The item of a declared stream. */
export type ItemOf<F> = ResultOf<F> extends AsyncIterable<infer I> ? I : ResultOf<F>;

/** Texts that a pattern is about, and some more: TypeScript has no type for a segment. */
type TextOf<P extends string> =
  P extends `${infer Head}{${string}}${infer Tail}` ? `${Head}${string}${TextOf<Tail>}`
  : P extends `${infer Head}**` ? `${Head}${string}`
  : P extends `${infer Head}*${infer Tail}` ? `${Head}${string}${TextOf<Tail>}`
  : P;

/** Names of topics that an `Api` declares. */
export type TopicName<A> = TextOf<NameIn<A, "topics">>;

type Separator = ":" | "/";

/** `true` if the name `N` is one that pattern `P` is about, segment by segment: see "Patterns" in docs/AUTH.md. */
type IsAbout<P extends string, N extends string> =
  N extends P ? true
  : P extends "**" ? true
  : P extends `${infer Head}{${string}}${infer Tail}` ? IsSegment<Head, Tail, N>
  : P extends `${infer Head}**` ? N extends `${Head}${string}` ? true : false
  : P extends `${infer Head}*${infer Tail}` ? IsSegment<Head, Tail, N>
  : false;

/** A segment between `Head` and `Tail`. */
type IsSegment<Head extends string, Tail extends string, N extends string> =
  N extends `${Head}${infer Rest}`
    ? Tail extends "" ? Rest extends "" | `${string}${Separator}${string}` ? false : true
    : Tail extends `${infer S extends Separator}${string}`
      ? Rest extends `${infer Segment}${S}${infer After}`
        ? Segment extends "" | `${string}${Separator}${string}` ? false : IsAbout<Tail, `${S}${After}`>
        : false
      : false
    : false;

/** The message of the topic `N`: of its own declaration, or of every pattern that is about it. */
export type MessageOf<A, N extends string> = N extends NameIn<A, "topics">
  ? Declared<A, "topics", N>
  : { [P in NameIn<A, "topics">]: IsAbout<P, N> extends true ? Declared<A, "topics", P> : never }[NameIn<A, "topics">];

/** `data, options?`, where `data` may be left out if `T` has room for nothing. */
export type DataAndOptions<T, Options> = undefined extends T
  ? [data?: T, options?: Options]
  : [data: T, options?: Options];
