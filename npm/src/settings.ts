import type { CoreOptions } from "./boundary.js";
import type { ConnectOptions, TokenProvider } from "./connect-types.js";
import { MoorlineError } from "./errors.js";
import { LONGEST_TIMER_MS } from "./settlement.js";
import { resolveUrl } from "./url.js";
import { version } from "./version.js";

/** What the shell itself does by options; the core knows nothing of it. */
export interface Settings extends CoreOptions {
  token: string | TokenProvider | undefined;
  auth: unknown;
  offline: "queue" | "fail";
}

/** URL and options of `connect`, resolved and with every default. The defaults are written here and nowhere else. */
export function settingsFrom(url: string | URL | undefined, options: ConnectOptions): Settings {
  return {
    url: resolveUrl(url, globalThis.location),
    encryption: options.encryption ?? "aes-256-gcm",
    serverKeys: serverKeys(options.serverKey),
    sharedKey: sharedKey(options.sharedKey),
    asksForCredentials: (options.token ?? options.auth) !== undefined,
    token: options.token,
    auth: options.auth,
    allowInsecureDiscovery: options.allowInsecureDiscovery ?? false,
    connectTimeoutMs: wholeMs(options.connectTimeoutMs ?? 10_000),
    callTimeoutMs: wholeMs(options.callTimeoutMs ?? 10_000),
    reconnect: options.reconnect ?? true,
    reconnectBaseMs: wholeMs(options.reconnectBaseMs ?? 200),
    reconnectMaxMs: wholeMs(options.reconnectMaxMs ?? 20_000),
    clientVersion: `moorline/${version}`,
    offline: options.offline ?? "queue",
  };
}

/** Whole and finite, as Rust wants it; 24 days are as good as no limit. */
function wholeMs(ms: number): number {
  return Math.ceil(Math.min(ms, LONGEST_TIMER_MS));
}

function serverKeys(option: ConnectOptions["serverKey"]): string[] {
  const texts = typeof option === "string" ? option.split(",") : [...(option ?? [])];
  return texts.map((text) => text.trim()).filter(Boolean).map(checkServerKey);
}

/** As {@link checkServerKey}. */
function sharedKey(text = ""): string {
  if (text.trim() === "" || text.trim().startsWith("mlkey_")) return text.trim();
  throw new MoorlineError("invalid_shared_key", "The option `sharedKey` does not begin with mlkey_", {
    remedy: text.trim().startsWith("mlpub_")
      ? "This is the server's public key: pass it as serverKey."
      : "Pass what `moorline key new` prints. A passphrase becomes a key with `moorline key from-passphrase`.",
  });
}

/** Only the kind of key: its checksum is the core's to check, which may not be loaded yet. */
function checkServerKey(text: string): string {
  if (text.startsWith("mlpub_")) return text;
  // The text is not repeated: it may be a secret in the wrong place, and messages end up in logs.
  if (text.startsWith("mlkey_")) {
    throw new MoorlineError("invalid_server_key", "The option `serverKey` holds a shared key (mlkey_…)", {
      remedy: "Keep that one secret and pass the public key that `moorline identity show` prints; it begins with mlpub_.",
    });
  }
  throw new MoorlineError("invalid_server_key", "The option `serverKey` does not begin with mlpub_");
}
