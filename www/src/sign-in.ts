import { MoorlineError } from "moorline";

import type { Member, Role, SignIn } from "./api";
import { element } from "./dom";
import { withArticle } from "./room";
import { remedyOf } from "./trouble";

/** As in `www/server/src/role.rs`. A toy: an application's passwords are nobody's to read. */
const TOY_PASSWORDS: Record<Role, string | undefined> = { viewer: undefined, speaker: "ahoy", admin: "anchor" };

/** An answer that takes longer waits for the line. */
const SOON_MS = 700;

/** The form "Who you are": a name, a role, and for some roles a password. */
export class SignInForm {
  readonly #form = element<HTMLFormElement>("sign-in");
  readonly #name = element<HTMLInputElement>("name");
  readonly #password = element<HTMLInputElement>("password");
  readonly #button = element<HTMLButtonElement>("become");
  readonly #problem = element("sign-in-problem");

  /** @param become what is tried with the form; who that is then, or why not */
  constructor(name: string, become: (shown: SignIn) => Promise<Member>) {
    this.#name.value = name;
    this.#form.addEventListener("change", () => this.#follow());
    this.#form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (this.#button.ariaDisabled === "true") return;
      this.#button.ariaDisabled = "true";
      this.#tell("");
      const waiting = setTimeout(() => this.#tell("As soon as the line is back.", true), SOON_MS);
      try {
        const me = await become({ name: this.#name.value, role: this.#role, password: this.#password.value });
        this.#name.value = me.name;
        this.#password.value = "";
        this.#tell("");
      } catch (error) {
        this.#refused(error);
      } finally {
        clearTimeout(waiting);
        this.#button.ariaDisabled = null;
      }
    });
    this.#follow();
  }

  /** Chooses a role, and goes where the next thing is to be typed. */
  choose(role: Role): void {
    this.#form.querySelector<HTMLInputElement>(`[name="role"][value="${role}"]`)!.checked = true;
    this.#follow();
    (this.#passwordNeeded ? this.#password : this.#name).focus();
  }

  #tell(text: string, isHint = false): void {
    this.#problem.classList.toggle("hint", isHint);
    this.#problem.textContent = text;
    for (const field of [this.#name, this.#password]) field.ariaInvalid = null;
  }

  /** Says why, and goes to what is to be corrected. */
  #refused(error: unknown): void {
    this.#tell(remedyOf(error));
    const code = MoorlineError.is(error) ? error.code : "";
    const wrong = code === "wrong_password" ? this.#password : code.startsWith("name_") ? this.#name : undefined;
    if (!wrong) return;
    wrong.ariaInvalid = "true";
    wrong.select();
  }

  get #role(): Role {
    return new FormData(this.#form).get("role") as Role;
  }

  get #passwordNeeded(): boolean {
    return TOY_PASSWORDS[this.#role] !== undefined;
  }

  #follow(): void {
    this.#form.dataset.role = this.#role;
    this.#password.disabled = !this.#passwordNeeded;
    element("toy").textContent = TOY_PASSWORDS[this.#role] ?? "";
    this.#button.textContent = `Be ${withArticle(this.#role)}`;
  }
}
