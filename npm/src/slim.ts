/**
 * `moorline/slim`: looks for no wasm; the option `wasm` says where it comes from. For workers on the edge, for bundlers
 * with their own way to import wasm, and for whoever serves the file from elsewhere.
 *
 * @module
 */
import type { ApiShape, UntypedApi } from "./api.js";
import { connectWith, preloadWith } from "./connect.js";
import { MoorlineError } from "./errors.js";
import type { Client } from "./client-types.js";
import type { ConnectOptions, PreloadOptions, WasmSource } from "./connect-types.js";

export * from "./exports.js";

/** What the other entries leave open, this one needs. */
export interface WithWasm {
  /** Where the wasm comes from: its bytes, a URL to fetch, a compiled module, a response, or a promise of one of these. */
  wasm: WasmSource;
}

/**
 * As `connect` of `moorline`, with the option `wasm` required.
 *
 * @param url `undefined` for `/moorline` of the page's origin
 */
export function connect<A extends ApiShape = UntypedApi>(
  url: string | URL | undefined,
  options: ConnectOptions & WithWasm,
): Client<A> {
  return connectWith(given(options, "connect"), url, options);
}

/** As `preload` of `moorline`, with the option `wasm` required. */
export function preload(options: PreloadOptions & WithWasm): Promise<void> {
  return preloadWith(given(options, "preload"), options);
}

function given(options: WithWasm | undefined, where: string): () => WasmSource {
  const wasm = options?.wasm;
  if (wasm !== undefined) return () => wasm;
  throw new MoorlineError("invalid_option", `${where}() of moorline/slim needs the option \`wasm\``, {
    remedy: "Pass the wasm's bytes, URL or WebAssembly.Module, or import from moorline or moorline/inline.",
  });
}
