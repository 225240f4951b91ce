/**
 * A WebSocket that can be cut from outside, to see what a lost connection is like: `connect(url, { webSocket })`.
 *
 * It is the browser's own, which only remembers the newest of its kind.
 */
export class CuttableSocket extends WebSocket {
  static #newest: CuttableSocket | undefined;
  static #deadUntil = 0;

  constructor(url: string | URL, protocols?: string | string[]) {
    super(url, protocols);
    CuttableSocket.#newest = this;
    if (CuttableSocket.isDead) this.close();
  }

  /** Whether new ones are cut too. */
  static get isDead(): boolean {
    return performance.now() < this.#deadUntil;
  }

  /** Cuts the line, and every new one for so long. */
  static cut(forMs = 0): void {
    this.#deadUntil = performance.now() + forMs;
    this.#newest?.close();
  }
}
