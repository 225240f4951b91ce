import type { Client, Identity, Session, Status } from "moorline";

import { element, make, nameTag } from "./dom";
import { CuttableSocket } from "./socket";
import { readable, timeOfDayWithSeconds } from "./time";
import { remedyOf } from "./trouble";

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

/** The panel "The connection", the pill above it, and what is announced and explained when it fails. */
export class Line {
  readonly #client: Client;
  readonly #facts = new Map<Fact, HTMLElement>();
  readonly #history = element("history");
  #connectedBefore = false;
  #wasConnected = false;
  /** When the line was lost, or first wanted. */
  #downSince = performance.now();
  #retryAt: number | undefined;

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

    element("come-back").addEventListener("click", () => location.reload());
    element("cut").addEventListener("click", () => this.#cut(0));
    element("cut-long").addEventListener("click", () => this.#cut(LONG_CUT_MS));
    client.on("session", (session) => this.#showSession(session));
    client.on("identity", (identity) => this.#showIdentity(identity));
    client.on("reset", ({ reason, unconfirmed }) => {
      const fate = unconfirmed.length === 0 ? "" : `, ${unconfirmed.length} messages may have arrived or not`;
      this.#note(`The server lost the session (${reason})${fate}`);
    });
    client.on("status", (status) => this.#onStatus(status));
    this.#showStatus(client.status);
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
    this.#retryAt = status.retryInMs === undefined ? undefined : now + status.retryInMs;
    if (this.#wasConnected && !isConnected) this.#downSince = now;

    if (isConnected) {
      const took = readable(now - this.#downSince);
      const how = this.#client.session?.resumed ? "nothing is lost" : "as a new session";
      this.#note(this.#connectedBefore ? `Back after ${took}, ${how}` : `Connected after ${took}`);
      this.#announce(this.#connectedBefore ? "Connected again" : "Connected");
      this.#connectedBefore = true;
      this.#client.ping();
    } else if (status.status === "closed") {
      this.#note(status.error ? `Closed: ${status.error.message}` : "Closed");
      this.#announce("The connection is closed");
    } else if (status.retryInMs !== undefined) {
      const next = `try ${status.attempt} in ${readable(status.retryInMs)}`;
      this.#note(this.#wasConnected ? `Line lost, ${next}` : `Try failed, ${next}`);
      if (this.#wasConnected) this.#announce("Connection lost, trying again");
    }
    this.#wasConnected = isConnected;
    this.#showStatus(status);
    this.#explain(status);
  }

  #showStatus(status: Status): void {
    const pill = element("pill");
    pill.dataset.status = document.body.dataset.status = status.status;
    element("pill-text").textContent = this.#words(status);
    this.#fact("status").textContent = this.#words(status);
    for (const id of ["cut", "cut-long"]) element(id).ariaDisabled = status.status === "connected" ? null : "true";
    if (this.#retryAt !== undefined) setTimeout(() => this.#showStatus(this.#client.status), 100);
    this.#refresh();
  }

  #words({ status, attempt }: Status): string {
    if (status !== "connecting") return status === "connected" ? "Connected" : "Closed";
    const waitMs = (this.#retryAt ?? 0) - performance.now();
    if (this.#retryAt !== undefined && waitMs > 0) return `Try ${attempt} in ${(waitMs / 1_000).toFixed(1)} s`;
    return attempt === 1 ? "Connecting" : `Connecting, try ${attempt}`;
  }

  /** A line that is back within a moment needs no explanation. */
  #explain({ status, attempt, error }: Status): void {
    const trouble = element("trouble");
    const isTold = error !== undefined && (status === "closed" || (status === "connecting" && attempt > 1));
    trouble.hidden = !isTold;
    if (!isTold) return;
    const text = CuttableSocket.isDead ? "You cut the line. The page tries again by itself." : remedyOf(error);
    const words = element("trouble-text");
    if (words.textContent !== text) words.textContent = text;
    element("come-back").hidden = status !== "closed";
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

  #announce(text: string): void {
    element("announcement").textContent = text;
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
