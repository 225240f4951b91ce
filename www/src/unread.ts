/** Counts in the window's title what was said while nobody looked. */
export class Unread {
  readonly #title = document.title;
  #count = 0;

  constructor() {
    document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") this.#clear(); });
  }

  add(): void {
    if (document.visibilityState === "visible") return;
    this.#count += 1;
    document.title = `(${this.#count}) ${this.#title}`;
  }

  #clear(): void {
    this.#count = 0;
    document.title = this.#title;
  }
}
