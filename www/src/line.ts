import type { Client, Identity, Session, Status } from "moorline";

import { element, make, nameTag } from "./dom";
import { CuttableSocket } from "./socket";
import { StatusLine } from "./status";
import { readable, timeOfDayWithSeconds } from "./time";

const REFRESH_MS = 500;
const PING_MS = 2_000;
const MAX_HISTORY = 6;
const LONG_CUT_MS = 5_000;

const SUITES: Record<Session["encryption"]["suite"], string> = {
  "aes-256-gcm": "AES-256-GCM",
  "chacha20-poly1305": "ChaCha20-Poly1305",
  off: "none: not sealed",
};
const TRUST: Record<Session["encryption"]["trust"], string> = {
  pinned: "pinned",
  discovered: "discovered, not pinned",
  shared_key: "by a shared key",
  none: "none",
};

type Fact = "status" | "identity" | "scopes" | "cipher" | "trust" | "key" | "session" | "resumed" | "rtt" | "bytes";

/** The panel "The connection", and the status line above it. */
export class Line {
  readonly #client: Client;
  readonly #facts = new Map<Fact, HTMLElement>();
  readonly #history = element("history");
  #connectedBefore = false;
  #wasConnected = false;
  /** When the line was lost, or first wanted. */
  #downSince = performance.now();

  constructor(client: Client) {
    this.#client = client;
    this.#addFact("status", "Status");
    this.#addFact("identity", "You are");
    this.#addFact("scopes", "Scopes");
    this.#addFact("cipher", "Cipher");
    this.#addFact("trust", "Trust");
    this.#addFact("key", "Server key");
    this.#addFact("session", "Session");
    this.#addFact("resumed", "Resumed");
    this.#addFact("rtt", "Round trip");
    this.#addFact("bytes", "Bytes");

    element("cut").addEventListener("click", () => this.#cut(0));
    element("cut-long").addEventListener("click", () => this.#cut(LONG_CUT_MS));
    client.on("session", (session) => this.#showSession(session));
    client.on("identity", (identity) => this.#showIdentity(identity));
    client.on("reset", ({ reason, unconfirmed }) => {
      const fate = unconfirmed.length === 0 ? "" : `, ${unconfirmed.length} messages may have arrived or not`;
      this.#note(`The server lost the session (${reason})${fate}`);
    });
    client.on("status", (status) => this.#onStatus(status));
    new StatusLine(client, (words) => (this.#fact("status").textContent = words));
    this.#onStatus(client.status);
    setInterval(() => this.#refresh(), REFRESH_MS);
    setInterval(() => { if (document.visibilityState === "visible") client.ping(); }, PING_MS);
  }

  #cut(forMs: number): void {
    if (this.#client.status.status !== "connected") return;
    this.#note(forMs ? `You cut the line for ${readable(forMs)}` : "You cut the socket");
    CuttableSocket.cut(forMs);
  }

  #onStatus(status: Status): void {
    const now = performance.now();
    const isConnected = status.status === "connected";
    if (this.#wasConnected && !isConnected) this.#downSince = now;

    if (isConnected) {
      const took = readable(now - this.#downSince);
      const how = this.#client.session?.resumed ? "nothing is lost" : "as a new session";
      this.#note(this.#connectedBefore ? `Back after ${took}, ${how}` : `Connected after ${took}`);
      this.#connectedBefore = true;
      this.#client.ping();
    } else if (status.status === "closed") {
      this.#note(status.error ? `Closed: ${status.error.message}` : "Closed");
    } else if (status.retryInMs !== undefined) {
      const next = `try ${status.attempt} in ${readable(status.retryInMs)}`;
      this.#note(this.#wasConnected ? `Line lost, ${next}` : `Try failed, ${next}`);
    }
    this.#wasConnected = isConnected;
    for (const id of ["cut", "cut-long"]) element(id).ariaDisabled = isConnected ? null : "true";
    this.#refresh();
  }

  #showSession({ id, resumed, encryption: { suite, trust, serverKey } }: Session): void {
    this.#fact("cipher").textContent = SUITES[suite];
    this.#fact("trust").textContent = TRUST[trust];
    this.#fact("session").replaceChildren(shortened(id));
    this.#fact("resumed").textContent = resumed ? "yes" : "no, it is new";
    this.#fact("key").replaceChildren(...(serverKey ? [shortened(serverKey), copyButton(serverKey)] : ["none"]));
  }

  /** As the server says; the page claims nothing. */
  #showIdentity({ subject, role, scopes }: Identity): void {
    this.#fact("identity").replaceChildren(nameTag(subject), role ? `, ${role}` : "");
    this.#fact("scopes").replaceChildren(...(scopes ?? ["no list"]).map((scope) => make("code", "", scope)));
  }

  #refresh(): void {
    const { bytesSent, bytesReceived, rttMs } = this.#client.stats();
    this.#fact("rtt").textContent = rttMs === undefined ? "–" : readable(rttMs);
    this.#fact("bytes").textContent = `${bytes(bytesSent)} sent, ${bytes(bytesReceived)} received`;
  }

  #note(text: string): void {
    const time = make("time", "", timeOfDayWithSeconds(Date.now()));
    this.#history.prepend(make("li", "", time, " ", text));
    while (this.#history.childElementCount > MAX_HISTORY) this.#history.lastElementChild!.remove();
  }

  #addFact(fact: Fact, label: string): void {
    const value = make("dd", fact === "key" || fact === "session" ? "code" : "", "–");
    this.#facts.set(fact, value);
    element("facts").append(make("div", "", make("dt", "", label), value));
  }

  #fact(fact: Fact): HTMLElement {
    return this.#facts.get(fact)!;
  }
}

/** Beginning and end; the whole on hover. */
function shortened(text: string): HTMLElement {
  const short = make("span", "", text.length > 20 ? `${text.slice(0, 11)}…${text.slice(-5)}` : text);
  short.title = text;
  return short;
}

function copyButton(text: string): HTMLElement {
  const button = make("button", "small", "Copy");
  button.type = "button";
  button.ariaLabel = "Copy the server key";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = "Copy"), 1_500);
  });
  return button;
}

function bytes(count: number): string {
  if (count < 1_000) return `${count} B`;
  return count < 1_000_000 ? `${(count / 1_000).toFixed(1)} kB` : `${(count / 1_000_000).toFixed(1)} MB`;
}
