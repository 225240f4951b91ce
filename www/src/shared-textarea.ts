import * as Y from "yjs";

import { moved, spliceBetween, type Delta } from "./splice";

/**
 * A textarea and a Yjs text that are the same: what is typed becomes one small change, and what others write comes in around
 * the cursor. While an input method composes a word, both wait for it.
 */
export class SharedTextarea {
  readonly #area: HTMLTextAreaElement;
  readonly #text: Y.Text;
  readonly #undo: Y.UndoManager;
  /** The text as the textarea had it when both were the same. */
  #shown: string;
  #isComposing = false;
  /** What came from elsewhere since then. */
  #unshown: Delta[] = [];

  constructor(area: HTMLTextAreaElement, text: Y.Text) {
    this.#area = area;
    this.#text = text;
    // The browser's own would take back what others wrote, or forget everything.
    this.#undo = new Y.UndoManager(text, { trackedOrigins: new Set([this]) });
    this.#shown = area.value = text.toString();
    text.observe(({ delta }, { origin }) => {
      if (origin === this) return;
      this.#unshown.push(delta);
      if (!this.#isComposing) this.#show();
    });
    area.addEventListener("input", () => { if (!this.#isComposing) this.#take(); });
    area.addEventListener("compositionstart", () => (this.#isComposing = true));
    area.addEventListener("compositionend", () => {
      this.#isComposing = false;
      this.#take();
    });
    area.addEventListener("keydown", (event) => this.#onKey(event));
    area.addEventListener("beforeinput", (event) => {
      if (event.inputType === "historyUndo") this.#turnBack(event, false);
      if (event.inputType === "historyRedo") this.#turnBack(event, true);
    });
  }

  /** From elsewhere into the textarea. The browser keeps the cursor where it is among the words. */
  #show(): void {
    for (const delta of this.#unshown) {
      let at = 0;
      for (const { retain = 0, insert, delete: gone = 0 } of delta) {
        at += retain;
        if (gone > 0) this.#area.setRangeText("", at, at + gone, "preserve");
        if (typeof insert !== "string") continue;
        this.#area.setRangeText(insert, at, at, "preserve");
        at += insert.length;
      }
    }
    this.#unshown = [];
    this.#shown = this.#area.value;
    if (this.#shown !== this.#text.toString()) this.#withoutReturns();
  }

  /** From the textarea into the text. */
  #take(): void {
    const splice = spliceBetween(this.#shown, this.#area.value, this.#area.selectionEnd);
    if (!splice) return this.#show();
    const [from, to] = [splice.index, splice.index + splice.removed].map((place) => this.#unshown.reduce(moved, place));
    this.#text.doc!.transact(() => {
      this.#text.delete(from!, to! - from!);
      this.#text.insert(from!, splice.inserted);
    }, this);
    this.#shown = this.#area.value;
    if (this.#unshown.length > 0) this.#showAnew(from! + splice.inserted.length);
  }

  /** After a word was composed, while others wrote. */
  #showAnew(cursor: number): void {
    this.#unshown = [];
    this.#shown = this.#area.value = this.#text.toString();
    this.#area.setSelectionRange(cursor, cursor);
  }

  /** A textarea knows no carriage return, so that its places would be others. Every page takes them out; that is the same. */
  #withoutReturns(): void {
    this.#text.doc!.transact(() => {
      const text = this.#text.toString();
      for (let at = text.length - 1; at >= 0; at--) if (text[at] === "\r") this.#text.delete(at, 1);
    }, this);
    this.#shown = this.#area.value = this.#text.toString();
  }

  #onKey(event: KeyboardEvent): void {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.isComposing) return;
    const key = event.key.toLowerCase();
    if (key === "z") this.#turnBack(event, event.shiftKey);
    else if (key === "y") this.#turnBack(event, true);
  }

  #turnBack(event: Event, isRedo: boolean): void {
    event.preventDefault();
    if (this.#area.readOnly) return;
    if (isRedo) this.#undo.redo();
    else this.#undo.undo();
  }
}
