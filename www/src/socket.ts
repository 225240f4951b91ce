/**
 * A WebSocket that can be cut from outside, to see what a lost connection is like: `connect(url, { webSocket })`.
 *
 * It is the browser's own, which only remembers the newest of its kind.
 */
export class CuttableSocket extends WebSocket {
  static #newest: CuttableSocket | undefined;
  static #deadUntil = 0;

  constructor(url: string | URL, protocols?: string | string[]) {
    // Not even a try: the browser would report the failure on the console.
    if (CuttableSocket.isDead) return new DeadSocket() as unknown as CuttableSocket;
    super(url, protocols);
    CuttableSocket.#newest = this;
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

  /** Lets new ones through again, and says so as a browser does whose network is back. */
  static mend(): void {
    this.#deadUntil = 0;
    dispatchEvent(new Event("online"));
  }
}

/** What there is without a network: something that closes. */
class DeadSocket {
  binaryType = "arraybuffer";
  bufferedAmount = 0;
  onclose: ((event: { code: number }) => void) | null = null;

  constructor() {
    setTimeout(() => this.close());
  }

  send(): void {}

  close(): void {
    this.onclose?.({ code: 1006 });
    this.onclose = null;
  }
}
