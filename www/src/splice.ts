/** One change of a text: at `index` so many UTF-16 units went, and these came. */
export interface Splice {
  index: number;
  removed: number;
  inserted: string;
}

/**
 * What became of `before` so that it is `after`, as small as it can be. Where several would do, as in a run of the same
 * letter, the one at the cursor, which is behind what was typed and before what was not touched.
 *
 * @param cursor where it is in `after`
 */
export function spliceBetween(before: string, after: string, cursor: number): Splice | undefined {
  if (before === after) return undefined;
  const shorter = Math.min(before.length, after.length);
  let behind = commonEnd(before, after, Math.min(shorter, after.length - cursor));
  let front = 0;
  while (front < shorter - behind && before[front] === after[front]) front += 1;
  // Half a character is none.
  if (splits(before, front) || splits(after, front)) front -= 1;
  // The cursor may be anywhere, after an undo of the browser say; then there is more that was not touched.
  behind = commonEnd(before, after, shorter - front);
  if (splits(before, before.length - behind) || splits(after, after.length - behind)) behind -= 1;
  return {
    index: front,
    removed: before.length - behind - front,
    inserted: after.slice(front, after.length - behind),
  };
}

/** A change as Yjs tells it: what stays, comes and goes, from the beginning on. */
export type Delta = readonly { retain?: number | undefined; insert?: unknown; delete?: number | undefined }[];

/** Where a place in a text is after a change by somebody else. What comes exactly there comes behind it. */
export function moved(place: number, delta: Delta): number {
  let at = 0;
  let now = place;
  for (const { retain, insert, delete: gone } of delta) {
    if (at > now) break;
    if (retain !== undefined) at += retain;
    if (typeof insert === "string") {
      if (at < now) now += insert.length;
      at += insert.length;
    }
    if (gone !== undefined) now -= Math.min(gone, Math.max(0, now - at));
  }
  return now;
}

function commonEnd(one: string, other: string, most: number): number {
  let count = 0;
  while (count < most && one[one.length - 1 - count] === other[other.length - 1 - count]) count += 1;
  return count;
}

/** Whether a place is between the halves of a surrogate pair. */
function splits(text: string, at: number): boolean {
  return at > 0 && at < text.length && isHigh(text.charCodeAt(at - 1)) && isLow(text.charCodeAt(at));
}

const isHigh = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00;
const isLow = (unit: number): boolean => unit >= 0xdc00 && unit < 0xe000;
