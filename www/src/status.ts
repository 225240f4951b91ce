import type { Client, Status } from "moorline";

import { element } from "./dom";
import { CuttableSocket } from "./socket";
import { remedyOf } from "./trouble";

const COUNTDOWN_MS = 100;

/** What every page shows of its connection: the pill, what is announced of it, and what to do where it fails. */
export class StatusLine {
  readonly #client: Client;
  readonly #onWords: (words: string) => void;
  #wasConnected = false;
  #connectedBefore = false;
  #retryAt: number | undefined;
  #countdown: ReturnType<typeof setTimeout> | undefined;

  /** @param onWords hears what the pill says */
  constructor(client: Client, onWords: (words: string) => void = () => {}) {
    this.#client = client;
    this.#onWords = onWords;
    element("come-back").addEventListener("click", () => location.reload());
    element("try-now").addEventListener("click", () => client.reconnect());
    client.on("status", (status) => this.#follow(status));
    this.#show();
  }

  #follow(status: Status): void {
    this.#retryAt = status.retryInMs === undefined ? undefined : performance.now() + status.retryInMs;
    const isConnected = status.status === "connected";
    if (isConnected) this.#announce(this.#connectedBefore ? "Connected again" : "Connected");
    else if (status.status === "closed") this.#announce("The connection is closed");
    else if (this.#wasConnected) this.#announce("Connection lost, trying again");
    this.#connectedBefore ||= isConnected;
    this.#wasConnected = isConnected;
    this.#show();
    this.#explain(status);
  }

  #show(): void {
    const { status } = this.#client.status;
    const words = this.#words(this.#client.status);
    element("pill").dataset.status = document.body.dataset.status = status;
    element("pill-text").textContent = words;
    this.#onWords(words);
    clearTimeout(this.#countdown);
    if (this.#retryAt !== undefined) this.#countdown = setTimeout(() => this.#show(), COUNTDOWN_MS);
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
    element("try-now").hidden = status === "closed";
  }

  #announce(text: string): void {
    element("announcement").textContent = text;
  }
}
