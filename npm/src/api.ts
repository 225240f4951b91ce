/**
 * What a page and its server say to each other, as types: the argument of `connect<Api>()`.
 *
 * One rule gives the keys: the section for `client.VERB` is the verb in the third person, with "calls", "handles" and
 * "streams" a function for each name (one of a stream returns its item, or an `AsyncIterable` of it) and "notifies" and "listens" a payload for each name. Sections may be left out, and keys that
 * this version does not know (`topics`, `feeds`, `states` come later) are ignored.
 *
 * ```ts
 * interface Api {
 *   calls: { say(message: { room: string; text: string }): { id: number }; now(): number };   // client.call
 *   streams: { ticks(options: { everyMs: number }): number };                                  // client.stream
 *   notifies: { cursor: { x: number; y: number } };                                            // client.notify
 *   handles: { pickMove(board: Board): Move };                                                 // client.handle
 *   listens: { chat: { from: string; text: string } };                                         // client.listen
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

/** `data, options?`, where `data` may be left out if `T` has room for nothing. */
export type DataAndOptions<T, Options> = undefined extends T
  ? [data?: T, options?: Options]
  : [data: T, options?: Options];
