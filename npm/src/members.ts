import type { Encoding } from "./boundary.js";
import { decode } from "./payload.js";
import type { Member } from "./types.js";

const LEFT = 0;
const AWAY = 2;
/** Values for each member, as `onMembers` in `boundary.ts` has them. */
const EACH = 7;

/** Who is in a channel, as it was told last. */
export class Roster {
  readonly #members = new Map<string, Member>();
  #list: readonly Member[] | undefined = Object.freeze([]);

  /** The same array until something changes. */
  get list(): readonly Member[] {
    return (this.#list ??= Object.freeze([...this.#members.values()]));
  }

  /**
   * Takes what was told.
   *
   * @param me which of them this client is
   * @returns whether it changes anything
   */
  take(whole: boolean, flat: unknown[], me: string | undefined): boolean {
    if (flat.length === 0 && (!whole || this.#members.size === 0)) return false;
    if (whole) this.#members.clear();
    for (let at = 0; at < flat.length; at += EACH) {
      const [id, state, subject, joinedAt, seenAt, encoding, body] =
        flat.slice(at, at + EACH) as [string, number, string, number, number, Encoding, Uint8Array | undefined];
      if (state === LEFT) {
        this.#members.delete(id);
        continue;
      }
      const seen = state === AWAY ? { away: true, seenAt } : { away: false, seenAt: undefined };
      this.#members.set(id, Object.freeze({ id, subject, data: read(encoding, body), ...seen, joinedAt, me: id === me }));
    }
    this.#list = undefined;
    return true;
  }
}

/** What a member says for itself is its own affair: what cannot be read is as good as nothing. */
function read(encoding: Encoding, body: Uint8Array | undefined): unknown {
  try {
    return body && decode(encoding, body);
  } catch {
    return undefined;
  }
}
