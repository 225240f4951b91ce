import { MoorlineError } from "moorline";

/** What to tell a person about a failure: what they can do, or what happened if nothing is known to help. */
export function remedyOf(error: unknown): string {
  if (!MoorlineError.is(error)) return String(error);
  return error.message === error.remedy ? error.message : `${error.message}. ${error.remedy}`.replace(/([.!?])\. /, "$1 ");
}
