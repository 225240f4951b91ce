import { element, make } from "./dom";
import { readable } from "./time";
import { remedyOf } from "./trouble";
import type { Dice, Roll } from "./api";

const MAX_BARS = 12;
/** The cells of a three by three grid that have a pip. */
const PIPS: Record<number, number[]> = {
  1: [4], 2: [0, 8], 3: [0, 4, 8], 4: [0, 2, 6, 8], 5: [0, 2, 4, 6, 8], 6: [0, 2, 3, 5, 6, 8],
};

/** The button that calls the server, and how long each answer took. */
export class DiceTable {
  readonly #dice = element("dice");
  readonly #answer = element("answer");
  readonly #bars = element("bars");
  #taken: number[] = [];

  constructor(roll: () => Promise<Roll>) {
    const button = element<HTMLButtonElement>("roll");
    this.#show([1, 1]);
    button.addEventListener("click", async () => {
      if (button.ariaDisabled === "true") return;
      const asked = performance.now();
      button.ariaDisabled = "true";
      this.#dice.classList.add("rolling");
      try {
        const { dice, uptimeMs } = await roll();
        this.#answered(dice, uptimeMs, performance.now() - asked);
      } catch (error) {
        this.#answer.replaceChildren(make("span", "problem", remedyOf(error)));
      } finally {
        this.#dice.classList.remove("rolling");
        button.ariaDisabled = null;
      }
    });
  }

  #answered(dice: Dice, uptimeMs: number, tookMs: number): void {
    this.#show(dice);
    this.#taken = [...this.#taken, tookMs].slice(-MAX_BARS);
    const fastest = readable(Math.min(...this.#taken));
    this.#answer.replaceChildren(
      make("strong", "", `${dice[0] + dice[1]} in ${readable(tookMs)}`),
      make("span", "quiet", `Fastest ${fastest}. Server up for ${readable(uptimeMs)}.`),
    );
    const longest = Math.max(...this.#taken);
    this.#bars.replaceChildren(...this.#taken.map((taken) => {
      const bar = make("li");
      bar.style.setProperty("--share", (taken / longest).toFixed(3));
      bar.title = readable(taken);
      return bar;
    }));
  }

  #show(dice: Dice): void {
    this.#dice.replaceChildren(...dice.map(die));
  }
}

function die(face: number): HTMLElement {
  const cells = Array.from({ length: 9 }, (_, cell) => make("i", PIPS[face]?.includes(cell) ? "pip" : ""));
  return make("span", "die", ...cells);
}
