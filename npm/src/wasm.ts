import type { WasmSource } from "./connect-types.js";
import { ConnectError } from "./errors.js";

/** Where an entry finds the wasm when the caller does not say. */
export type LocateWasm = () => WasmSource;

// A stalled download has no other end. Even a slow mobile line has fetched the file by then.
const DOWNLOAD_TIMEOUT_MS = 60_000;

/**
 * The compiled module.
 *
 * @throws ConnectError `no_webassembly`, `wasm_blocked` or `wasm_invalid`, which stay as they are, or `wasm_not_found`,
 *   which is retryable when it was the network that failed
 */
export async function compile(source: WasmSource | LocateWasm): Promise<WebAssembly.Module> {
  if (typeof WebAssembly !== "object") throw new ConnectError("no_webassembly");
  const found = await find(source);
  if (found instanceof WebAssembly.Module) return found;
  if (typeof found === "string" || found instanceof URL) return compileResponse(await download(found), true);
  if (found instanceof Response) return compileResponse(found, false);
  return compileBytes(found);
}

async function find(source: WasmSource | LocateWasm): Promise<Awaited<WasmSource>> {
  try {
    return await (typeof source === "function" ? source() : source);
  } catch (cause) {
    throw new ConnectError("wasm_not_found", `The wasm could not be read: ${cause}`, { cause });
  }
}

async function download(url: string | URL): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS) });
  } catch (cause) {
    throw brokenDownload(cause, true);
  }
  if (!response.ok) {
    // A server in trouble may recover; a file that is not there will not appear.
    const retryable = response.status >= 500 || response.status === 429;
    throw new ConnectError("wasm_not_found", `${url} answered ${response.status} instead of the wasm`, { retryable });
  }
  return response;
}

/** @param refetchable a response that the caller passed is used up, one of ours can be fetched anew */
async function compileResponse(response: Response, refetchable: boolean): Promise<WebAssembly.Module> {
  const type = response.headers.get("content-type") ?? "";
  if (!response.ok || type.startsWith("text/html")) {
    // Development servers and single-page hosts answer what they do not know with their index page and status 200.
    throw new ConnectError("wasm_not_found", `${response.url || "The response"} is a web page, not the wasm`);
  }
  try {
    // Streaming is faster and lets browsers keep the compiled code, but insists on the right type without parameters.
    return type.toLowerCase() === "application/wasm" && WebAssembly.compileStreaming
      ? await WebAssembly.compileStreaming(response)
      : await WebAssembly.compile(await response.arrayBuffer());
  } catch (cause) {
    if (cause instanceof WebAssembly.CompileError) throw blocked(cause) ?? unusable(cause);
    throw blocked(cause) ?? brokenDownload(cause, refetchable);
  }
}

async function compileBytes(source: ArrayBuffer | ArrayBufferView): Promise<WebAssembly.Module> {
  // V8 takes no DataView, although the specification lets it.
  const bytes = source instanceof DataView ? source.buffer.slice(source.byteOffset, source.byteOffset + source.byteLength) : source;
  try {
    return await WebAssembly.compile(bytes as BufferSource);
  } catch (cause) {
    throw blocked(cause) ?? unusable(cause);
  }
}

/** `wasm_blocked`, if that is what the platform's error means. */
export function blocked(cause: unknown): ConnectError | undefined {
  // Chromium, Firefox and WebKit agree neither on the class nor on the words.
  const words = /unsafe-eval|Content.Security.Policy|\bCSP\b/i;
  return words.test(String(cause)) ? new ConnectError("wasm_blocked", undefined, { cause }) : undefined;
}

/** `wasm_invalid`: what came is not this version's wasm. */
export function unusable(cause: unknown): ConnectError {
  return new ConnectError("wasm_invalid", `The wasm cannot be used: ${cause}`, { cause });
}

function brokenDownload(cause: unknown, retryable: boolean): ConnectError {
  const remedy = retryable ? "Check the network; the client tries again by itself." : undefined;
  return new ConnectError("wasm_not_found", `Fetching the wasm failed: ${cause}`, { cause, retryable, remedy });
}
