import { make, nameTag, paint } from "./dom";
import type { Member, Point } from "./api";

const STEP = 0.03;
const LARGE_STEP = 0.12;
/** How long a cursor takes for most of its way to where it was last reported. */
const GLIDE_MS = 70;
const IDLE_MS = 6_000;

interface Cursor {
  element: HTMLElement;
  name: string;
  at: Point;
  target: Point;
  idle: ReturnType<typeof setTimeout> | undefined;
}

/** The surface with everybody's cursor. It tells at most one own position a frame. */
export class Harbour {
  readonly #surface: HTMLElement;
  readonly #send: (at: Point) => void;
  readonly #calm = matchMedia("(prefers-reduced-motion: reduce)");

  #names = new Map<number, string>();
  #cursors = new Map<number, Cursor>();
  #you = 0;
  #own: Point | undefined;
  #unsent = false;
  #frame: number | undefined;
  #lastFrame = 0;

  constructor(surface: HTMLElement, send: (at: Point) => void) {
    this.#surface = surface;
    this.#send = send;
    surface.addEventListener("pointermove", (event) => this.#follow(event));
    surface.addEventListener("pointerdown", (event) => this.#follow(event));
    surface.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Shows these members' cursors and no others. */
  show(members: readonly Member[], you: number): void {
    if (you !== this.#you) {
      this.#remove(this.#you);
      this.#you = you;
    }
    const present = new Set(members.map(({ id }) => id));
    for (const id of [...this.#cursors.keys()]) if (!present.has(id)) this.#remove(id);
    for (const { id, name, at } of members) {
      const cursor = this.#cursors.get(id);
      if (cursor && cursor.name !== name) this.#label(cursor, id, name);
      const place = id === you ? this.#own : at;
      if (!cursor && place) this.#add(id, name, place);
    }
    this.#names = new Map(members.map(({ id, name }) => [id, name]));
  }

  /** Somebody's cursor moved. */
  move(id: number, to: Point): void {
    const cursor = this.#cursors.get(id) ?? this.#add(id, this.#names.get(id) ?? "", to);
    cursor.target = to;
    cursor.element.classList.remove("idle");
    clearTimeout(cursor.idle);
    cursor.idle = setTimeout(() => cursor.element.classList.add("idle"), IDLE_MS);
    this.#wake();
  }

  /** Tells the own position again, to a server that does not know it. */
  tellAgain(): void {
    this.#unsent = this.#own !== undefined;
    this.#wake();
  }

  #follow({ clientX, clientY }: PointerEvent): void {
    const { left, top, width, height } = this.#surface.getBoundingClientRect();
    this.#moveOwn({ x: (clientX - left) / width, y: (clientY - top) / height });
  }

  #onKey(event: KeyboardEvent): void {
    const step = event.shiftKey ? LARGE_STEP : STEP;
    const { x, y } = this.#own ?? { x: 0.5, y: 0.5 };
    const moved = {
      ArrowLeft: { x: x - step, y },
      ArrowRight: { x: x + step, y },
      ArrowUp: { x, y: y - step },
      ArrowDown: { x, y: y + step },
    }[event.key];
    if (!moved) return;
    event.preventDefault();
    this.#moveOwn(moved);
  }

  #moveOwn({ x, y }: Point): void {
    this.#own = { x: clamp(x), y: clamp(y) };
    this.#unsent = true;
    if (this.#you === 0) return;
    this.move(this.#you, this.#own);
    // One's own hand is not to be followed, it is there.
    this.#cursors.get(this.#you)!.at = this.#own;
  }

  #wake(): void {
    if (this.#frame !== undefined) return;
    this.#lastFrame = performance.now();
    this.#frame = requestAnimationFrame((now) => this.#draw(now));
  }

  #draw(now: number): void {
    this.#frame = undefined;
    if (this.#unsent && this.#own) this.#send(this.#own);
    this.#unsent = false;

    const share = this.#calm.matches ? 1 : 1 - Math.exp(-Math.max(0, now - this.#lastFrame) / GLIDE_MS);
    let moving = false;
    for (const cursor of this.#cursors.values()) {
      const { at, target } = cursor;
      const isNear = Math.hypot(target.x - at.x, target.y - at.y) < 0.0005;
      cursor.at = isNear ? target : { x: at.x + (target.x - at.x) * share, y: at.y + (target.y - at.y) * share };
      moving ||= !isNear;
      place(cursor);
    }
    if (moving) this.#wake();
    this.#lastFrame = now;
  }

  #add(id: number, name: string, at: Point): Cursor {
    const element = make("div", id === this.#you ? "cursor own" : "cursor");
    element.ariaHidden = "true";
    const cursor: Cursor = { element, name, at, target: at, idle: undefined };
    this.#label(cursor, id, name);
    place(cursor);
    this.#cursors.set(id, cursor);
    this.#surface.append(element);
    return cursor;
  }

  #label(cursor: Cursor, id: number, name: string): void {
    cursor.name = name;
    paint(cursor.element, name).replaceChildren(make("i"), id === this.#you ? make("span", "name", "you") : nameTag(name));
  }

  #remove(id: number): void {
    const cursor = this.#cursors.get(id);
    if (!cursor) return;
    clearTimeout(cursor.idle);
    cursor.element.remove();
    this.#cursors.delete(id);
  }
}

function place({ element, at }: Cursor): void {
  element.style.setProperty("--x", at.x.toFixed(4));
  element.style.setProperty("--y", at.y.toFixed(4));
  // At the right edge the name goes to the left of the tip.
  element.classList.toggle("turned", at.x > 0.8);
}

function clamp(value: number): number {
  return Math.min(1, Math.max(0, value));
}
