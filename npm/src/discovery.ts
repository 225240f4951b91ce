import type { DiscoveryResult } from "./boundary.js";

/** Longer answers are no identity documents. The native client has the same cap (docs/PROTOCOL.md § Limits). */
const MOST_BYTES = 64 * 1024;

/** Asks a URL for the server's identity document. Whatever comes is for the core to judge; this never rejects. */
export async function discover(url: string, timeoutMs: number): Promise<DiscoveryResult> {
  const request: RequestInit = { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(timeoutMs) };
  const asked = sayingOrigin(url);
  const ask = async (): Promise<DiscoveryResult> => {
    const response = await fetch(asked, request);
    return { kind: "answer", status: response.status, document: parse(await read(response)) };
  };
  try {
    return await ask();
  } catch {
    // Nobody is there, or somebody whose answer a page of this origin may not read; Moorline's it always may.
    const answered = await fetch(asked, { ...request, mode: "no-cors" }).catch(() => undefined);
    if (!answered) return { kind: "unreachable" };
    // Or a server that has just come up: then it is asked once more.
    return ask().catch(() => ({ kind: "answer", status: answered.status }));
  }
}

/** A browser sends no `Origin` with a GET to the page's own host, and the server judges a socket by it. */
function sayingOrigin(url: string): string {
  const origin = globalThis.location?.origin;
  return origin && origin !== "null" ? `${url}?origin=${encodeURIComponent(origin)}` : url;
}

/** The body, or `undefined` when there is too much of it. */
async function read(response: Response): Promise<string | undefined> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (let length = 0; reader; ) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > MOST_BYTES) {
      reader.cancel().catch(() => {});
      return undefined;
    }
    text += decoder.decode(value, { stream: true });
  }
  return text + decoder.decode();
}

function parse(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
