import type { CoreFailure } from "./boundary.js";
import { codes } from "./codes.gen.js";
import { AuthError, ChannelError, ConnectError, MoorlineError, type ErrorDetails } from "./errors.js";
import { decode } from "./payload.js";

type ErrorClass = new (code: string, message?: string, details?: ErrorDetails) => MoorlineError;

/** What the core reported or threw, as an error of the class that its context asks for. */
export function fromCore(Class: ErrorClass, thrown: unknown): MoorlineError {
  if (MoorlineError.is(thrown)) return thrown;
  if (!isCoreFailure(thrown)) return new Class("internal", `The wasm core failed: ${thrown}`, { cause: thrown });
  const { code, message, remedy, retryable, ref } = thrown;
  if (Class === ConnectError && isAboutWho(code)) Class = AuthError;
  return new Class(code, message, { remedy, retryable, ref, data: attachment(thrown) });
}

/** What went wrong with a call, where it was about a channel. */
export function aboutChannel(error: unknown): unknown {
  if (!MoorlineError.is(error) || error instanceof ChannelError) return error;
  return new ChannelError(error.code, error.message, { ...error, cause: error.cause });
}

/** Codes that say who somebody may not be; what the registry does not know is an auth handler's own. */
function isAboutWho(code: string): boolean {
  const known = ["unauthorized", "token_missing", "token_expired", "credentials_unavailable", "credentials_too_large"];
  return known.includes(code) || !Object.hasOwn(codes, code);
}

function isCoreFailure(thrown: unknown): thrown is CoreFailure {
  return typeof thrown === "object" && thrown !== null && "code" in thrown && typeof thrown.code === "string";
}

function attachment({ encoding, data }: CoreFailure): unknown {
  if (encoding === undefined || data === undefined) return undefined;
  try {
    return decode(encoding, data);
  } catch {
    return undefined; // The failure itself matters more than an attachment that cannot be read.
  }
}
