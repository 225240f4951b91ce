import type { Encoding } from "./boundary.js";
import type { Member } from "./channel-types.js";
import { decode, isSame, type Payload } from "./payload.js";

const LEFT = 0;
const AWAY = 2;
/** Values for each member, as `onMembers` in `boundary.ts` has them. */
const EACH = 7;

/** A member, and its data as it was told. */
interface Entry {
  readonly member: Member;
  readonly said: Payload | undefined;
}

/** Who is in a channel, as it was told last. */
export class Roster {
  #entries = new Map<string, Entry>();
  /** The same array until something changes. */
  list: readonly Member[] = Object.freeze([]);

  /**
   * Takes what was told.
   *
   * @param me which of them this client is
   * @returns whether it changes anything
   */
  take(whole: boolean, flat: unknown[], me: string | undefined): boolean {
    const before = this.#entries;
    if (whole) this.#entries = new Map();
    for (let at = 0; at < flat.length; at += EACH) {
      const [id, state, subject, joinedAt, seenAt, encoding, body] =
        flat.slice(at, at + EACH) as [string, number, string, number, number, Encoding, Uint8Array | undefined];
      if (state === LEFT) {
        this.#entries.delete(id);
        continue;
      }
      const said = body && { encoding, body };
      const seen = state === AWAY ? { away: true, seenAt } : { away: false, seenAt: undefined };
      const told = { id, subject, data: undefined, ...seen, joinedAt, me: id === me };
      // On every connection all are told anew, and most of them are as they were.
      const known = before.get(id);
      const isKnown = known && isSameMember(known.member, told) && isSaid(known.said, said);
      this.#entries.set(id, isKnown ? known : { member: Object.freeze({ ...told, data: read(said) }), said });
    }
    const list = [...this.#entries.values()].map(({ member }) => member);
    if (list.length === this.list.length && list.every((member, at) => member === this.list[at])) return false;
    this.list = Object.freeze(list);
    return true;
  }
}

function isSameMember(one: Member, other: Member): boolean {
  return (Object.keys(other) as (keyof Member)[]).every((key) => key === "data" || one[key] === other[key]);
}

function isSaid(one: Payload | undefined, other: Payload | undefined): boolean {
  return one && other ? isSame(one, other) : one === other;
}

/** What a member says for itself is its own affair: what cannot be read is as good as nothing. */
function read(said: Payload | undefined): unknown {
  try {
    return said && decode(said.encoding, said.body);
  } catch {
    return undefined;
  }
}
