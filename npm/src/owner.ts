import type { Core } from "./boundary.js";
import type { Status } from "./client-types.js";
import type { AuthError, CallError, ChannelError, ConnectError, MoorlineError } from "./errors.js";

/** What the parts of a client need of it. */
export interface Owner {
  /** The core, while the client runs. */
  core(): Core | undefined;
  /** Why nothing can be sent any more; `undefined` before the end. */
  ended(): MoorlineError | undefined;
  status(): Status;
  /** A timeout, which while not connected has a cause that says more. */
  timeout(Class: typeof AuthError | typeof CallError | typeof ChannelError | typeof ConnectError, message: string): MoorlineError;
  /** What no promise tells. */
  report(error: MoorlineError): void;
}
