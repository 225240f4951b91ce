import { make, nameTag, paint } from "./dom";
import { timeOfDay } from "./time";
import type { Dice } from "./api";

const MAX_ENTRIES = 200;

/** Something that somebody said. */
export interface Saying {
  name: string;
  text: string;
  atMs: number;
}

/** The messages and what else happened in the room, the newest below. */
export class Chat {
  readonly #log: HTMLElement;
  #maxEntries = MAX_ENTRIES;
  #lastSpeaker: string | undefined;
  #lastRoll: { name: string; times: number; entry: Element } | undefined;

  /** Whether the newest is in sight. Who reads back is not torn away from it. */
  #isAtEnd = true;

  constructor(log: HTMLElement) {
    this.#log = log;
    log.addEventListener("scroll", () => {
      this.#isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    });
    new ResizeObserver(() => this.#isAtEnd && this.#toEnd()).observe(log);
  }

  clear(): void {
    this.#log.replaceChildren();
    this.#maxEntries = MAX_ENTRIES;
    this.#lastSpeaker = undefined;
  }

  say(saying: Saying, isOwn: boolean): void {
    this.#add(entryOf(saying, isOwn, this.#lastSpeaker));
    this.#lastSpeaker = saying.name;
  }

  /** Puts what was said before everything else that is there. What is in sight stays where it is. */
  sayEarlier(sayings: readonly Saying[], isOwn: (saying: Saying) => boolean): void {
    const entries = sayings.map((saying, at) => entryOf(saying, isOwn(saying), sayings[at - 1]?.name));
    this.#maxEntries += entries.length;
    const fromEnd = this.#log.scrollHeight - this.#log.scrollTop;
    this.quietly(() => this.#log.prepend(...entries));
    this.#log.scrollTop = this.#log.scrollHeight - fromEnd;
  }

  /** Something that is not a message: who came, who rolled what. */
  note(...content: (Node | string)[]): void {
    this.#add(make("p", "note", ...content));
    this.#lastSpeaker = undefined;
  }

  /** Somebody rolled the dice. Who does so again and again takes one line for it. */
  roll(name: string, [one, other]: Dice): void {
    const before = this.#lastRoll;
    const isAgain = before?.name === name && before.entry === this.#log.lastElementChild;
    const times = isAgain ? before.times + 1 : 1;
    const content = [nameTag(name), ` rolled ${one} and ${other}`, times > 1 ? ` (${times} times)` : ""];
    if (isAgain) before.entry.replaceChildren(...content);
    else this.note(...content);
    this.#lastRoll = { name, times, entry: this.#log.lastElementChild! };
  }

  /** Adds what is history, which a screen reader should not read out as if it happened now. */
  quietly(add: () => void): void {
    this.#log.ariaLive = "off";
    add();
    requestAnimationFrame(() => (this.#log.ariaLive = "polite"));
  }

  #add(entry: HTMLElement): void {
    this.#log.append(entry);
    while (this.#log.childElementCount > this.#maxEntries) this.#log.firstElementChild!.remove();
    if (this.#isAtEnd || entry.classList.contains("own")) this.#toEnd();
  }

  #toEnd(): void {
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}

/** @param before who spoke before it */
function entryOf({ name, text, atMs }: Saying, isOwn: boolean, before: string | undefined): HTMLElement {
  const said = make("p", "text", text);
  said.dir = "auto";
  const time = make("time", "", timeOfDay(atMs));
  time.dateTime = new Date(atMs).toISOString();
  const head = make("p", "who", nameTag(name), " ", time);
  const entry = paint(make("article", isOwn ? "message own" : "message", head, said), name);
  entry.classList.toggle("goes-on", before === name);
  return entry;
}
