import { MoorlineError } from "./errors.js";

/** What is used of a page's `location`. */
export type Base = Pick<Location, "href" | "protocol">;

const PATH = "/moorline";

/** The absolute `ws:` or `wss:` URL to dial. Without a page (`base`) only an absolute one can be resolved. */
export function resolveUrl(url: string | URL | undefined, base: Base | undefined): string {
  const resolved = parse(url, base);
  resolved.protocol = resolved.protocol.replace(/^http/, "ws");
  resolved.hash = ""; // A fragment belongs to the page; a WebSocket must not have one.
  if (!/^wss?:$/.test(resolved.protocol)) {
    // `localhost:2667` parses as the scheme `localhost:`, the commonest way to get here.
    const remedy = typeof url === "string" && /^[\w.-]+:\d/.test(url) ? `Write ws://${url}` : undefined;
    throw invalidUrl(`The URL \`${url}\` has the scheme ${resolved.protocol}`, remedy);
  }
  if (resolved.username || resolved.password) {
    throw invalidUrl("The URL has a user name or password, which a WebSocket cannot carry");
  }
  if (resolved.search) {
    throw invalidUrl("The URL has a query, which ends up in logs", "Pass a token as the option token.");
  }
  resolved.search = ""; // Of `?` alone, too.
  if (base?.protocol === "https:" && resolved.protocol === "ws:" && !isLoopback(resolved.hostname)) {
    throw invalidUrl(`A page served over https: may not open \`${resolved.href}\``, "Use wss://.");
  }
  return resolved.href;
}

function parse(url: string | URL | undefined, base: Base | undefined): URL {
  try {
    return new URL(url ?? PATH, base?.href);
  } catch (cause) {
    if (base) throw invalidUrl(`\`${url ?? PATH}\` is not a URL here, at ${base.href}`, undefined, cause);
    throw invalidUrl(
      url === undefined ? "Outside of a page there is no server of the same origin" : `\`${url}\` is not an absolute URL`,
      "Outside of a page pass an absolute URL: connect(\"wss://example.com/moorline\").",
      cause,
    );
  }
}

// Browsers count these as secure however they are reached.
function isLoopback(hostname: string): boolean {
  return /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}

function invalidUrl(message: string, remedy?: string, cause?: unknown): MoorlineError {
  return new MoorlineError("invalid_url", message, { remedy, cause });
}
