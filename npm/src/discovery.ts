import type { DiscoveryResult } from "./boundary.js";

/** Asks a URL for the server's identity document. Whatever comes is for the core to judge; this never rejects. */
export async function discover(url: string, timeoutMs: number): Promise<DiscoveryResult> {
  try {
    const response = await fetch(url, {
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(timeoutMs),
    });
    return { kind: "answer", status: response.status, document: parse(await response.text()) };
  } catch {
    return { kind: "unreachable" };
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
