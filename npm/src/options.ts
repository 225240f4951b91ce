import type { CallOptions, ConfirmedNotifyOptions, NotifyOptions, StreamOptions, WaitOptions } from "./call-types.js";
import type { AuthenticateOptions } from "./client-types.js";
import type { ConnectOptions, PreloadOptions } from "./connect-types.js";
import { MoorlineError } from "./errors.js";
import { encode } from "./payload.js";
import { isPosition } from "./position.js";
import type { AppendOptions, StoreOptions, ValueOptions } from "./store-types.js";
import type { HistoryOptions, PublishOptions, TopicOptions } from "./topic-types.js";

interface Expectation {
  what: string;
  fits(value: unknown): boolean;
}

const finiteMs: Expectation = {
  what: "a number of milliseconds above 0",
  fits: (value) => typeof value === "number" && value > 0 && value < Infinity,
};
const limitMs: Expectation = {
  what: "a number of milliseconds above 0, or Infinity",
  fits: (value) => typeof value === "number" && value > 0,
};
const flag: Expectation = { what: "true or false", fits: (value) => typeof value === "boolean" };

const wait: Record<keyof WaitOptions, Expectation> = {
  timeoutMs: limitMs,
  signal: {
    what: "an AbortSignal",
    fits: (value) => typeof value === "object" && value !== null && "aborted" in value && "addEventListener" in value,
  },
};

const offline = oneOf("queue", "fail");
const auth: Expectation = {
  what: "a Uint8Array or data that has a JSON form",
  fits: (value) => sizeOf(value) !== undefined,
};

/** As in limits.rs: `MAX_CHANNEL_DATA`. */
export const MAX_PRESENCE = 4_096;

const position: Expectation = { what: "the position of a message", fits: isPosition };

const connect: Record<keyof ConnectOptions, Expectation> = {
  serverKey: {
    what: "a string or an array of strings",
    fits: (value) => typeof value === "string" || (Array.isArray(value) && value.every((key) => typeof key === "string")),
  },
  encryption: oneOf("aes-256-gcm", "chacha20-poly1305", "off"),
  token: {
    what: "a text or a function that gives one",
    fits: (value) => typeof value === "function" || (typeof value === "string" && value !== ""),
  },
  auth,
  sharedKey: { what: "a text", fits: (value) => typeof value === "string" },
  allowInsecureDiscovery: flag,
  connectTimeoutMs: finiteMs,
  callTimeoutMs: limitMs,
  reconnect: flag,
  reconnectBaseMs: finiteMs,
  reconnectMaxMs: finiteMs,
  offline,
  webSocket: { what: "a WebSocket class", fits: (value) => typeof value === "function" },
  wasm: {
    what: "bytes, a URL, a WebAssembly.Module, a Response or a promise of one",
    fits: (value) => typeof value === "string" || (typeof value === "object" && value !== null),
  },
};

export const checkConnectOptions = checker<ConnectOptions>("connect", connect);
export const checkPreloadOptions = checker<PreloadOptions>("preload", { ...wait, wasm: connect.wasm });
export const checkAuthenticateOptions = checker<AuthenticateOptions>("authenticate", {
  ...wait,
  token: { what: "a text", fits: (value) => typeof value === "string" && value !== "" },
  auth,
});
export const checkReadyOptions = checker<WaitOptions>("ready", wait);
const sending: Record<keyof CallOptions, Expectation> = {
  ...wait,
  offline,
  idempotencyKey: { what: "a text of 1 to 200 bytes without control characters", fits: isName },
};
const buffer = wholeNumber("items", 1, 65_536);
export const checkCallOptions = checker<CallOptions>("call", sending);
export const checkStreamOptions = checker<StreamOptions>("stream", { ...wait, offline, buffer });
const checkNotify = checker<AnyNotifyOptions>("notify", { ...wait, offline, volatile: flag, acknowledged: flag });

interface AnyNotifyOptions extends WaitOptions, Pick<NotifyOptions, "offline" | "volatile"> {
  acknowledged?: boolean | undefined;
}

/** As the others, and what does not go together. */
export function checkNotifyOptions(options: NotifyOptions | ConfirmedNotifyOptions | undefined): AnyNotifyOptions {
  const checked = checkNotify(options);
  const { volatile, acknowledged, timeoutMs, signal } = checked;
  const wrong = acknowledged ? volatile && "volatile" : (timeoutMs ?? signal) !== undefined && "timeoutMs or signal";
  if (!wrong) return checked;
  throw new MoorlineError(
    "invalid_option",
    `notify() takes no ${wrong} ${acknowledged ? "with" : "without"} \`acknowledged: true\``,
    { remedy: "Only what is acknowledged can be waited for, and what is volatile is not acknowledged." },
  );
}

export const checkTopicOptions = checker<TopicOptions>("topic", {
  history: wholeNumber("messages", 0, 256),
  echo: flag,
  presence: {
    what: "a Uint8Array or data that has a JSON form, of at most 4,096 bytes",
    fits: (value) => (sizeOf(value) ?? Infinity) <= MAX_PRESENCE,
  },
  members: flag,
  since: position,
  buffer,
  overflow: oneOf("pause", "drop", "error"),
  signal: wait.signal,
});
export const checkSendToOptions = checker<CallOptions>("sendTo", sending);
export const checkSetPresenceOptions = checker<WaitOptions>("setPresence", wait);
export const checkHistoryOptions = checker<HistoryOptions>("history", {
  ...wait,
  before: position,
  limit: wholeNumber("messages", 1, 256),
});
const checkPublish = checker<AnyPublishOptions>("publish", { ...sending, volatile: flag });

interface AnyPublishOptions extends Omit<PublishOptions, "volatile"> {
  volatile?: boolean | undefined;
}

/** As the others, and what does not go together. */
export function checkPublishOptions(options: AnyPublishOptions | undefined): AnyPublishOptions {
  const checked = checkPublish(options);
  const { volatile, ...others } = checked;
  const [wrong] = Object.entries(others).find(([, value]) => value !== undefined) ?? [];
  if (!volatile || !wrong) return checked;
  throw new MoorlineError("invalid_option", `publish() takes no ${wrong} with \`volatile: true\``, {
    remedy: "What is volatile goes out at once or not at all, and nobody waits for it.",
  });
}

export const checkStoreOptions = checker<StoreOptions>("store", {
  presence: { what: "a Uint8Array or data that has a JSON form, of at most 4,096 bytes", fits: (value) => (sizeOf(value) ?? Infinity) <= MAX_PRESENCE },
  members: flag,
  since: position,
  buffer,
  offline: flag,
});
export const checkAppendOptions = checker<AppendOptions>("append", { ...wait, idempotencyKey: sending.idempotencyKey });
export const checkSnapshotOptions = checker<WaitOptions>("snapshot", wait);
export const checkPutValueOptions = checker<WaitOptions>("putValue", wait);
export const checkValueOptions = checker<ValueOptions>("value", { ...wait, maxBytes: wholeNumber("bytes", 1, 2 ** 40) });

/** Whether `value` can name something: as in payload.rs, `Name`. */
export function isName(value: unknown): value is string {
  return typeof value === "string" && /^\P{Cc}+$/u.test(value) && new TextEncoder().encode(value).length <= 200;
}

/** How many bytes it makes as a payload; `undefined` if it makes none. */
function sizeOf(value: unknown): number | undefined {
  try {
    return encode(value).body.length;
  } catch {
    return undefined;
  }
}

/** A check that hands back the options, or throws `invalid_option` with the name that is wrong and the nearest right one. */
function checker<T extends object>(where: string, expectations: Record<keyof T, Expectation>) {
  const known = Object.keys(expectations);
  return (options: T | undefined): T => {
    if (options === undefined) return {} as T;
    if (typeof options !== "object" || options === null) {
      throw new MoorlineError("invalid_option", `The options of ${where}() must be an object, not ${show(options)}`);
    }
    for (const [name, value] of Object.entries(options)) {
      if (!Object.hasOwn(expectations, name)) throw unknownName(`option of ${where}()`, name, known);
      const expectation = expectations[name as keyof T];
      if (value !== undefined && !expectation.fits(value)) {
        const message = `The option \`${name}\` of ${where}() must be ${expectation.what}, not ${show(value)}`;
        throw new MoorlineError("invalid_option", message, { remedy: `Pass ${expectation.what}, or leave it out.` });
      }
    }
    return options;
  };
}

/** The error for a name that is not among `known`, with the nearest of them. */
export function unknownName(what: string, name: string, known: readonly string[]): MoorlineError {
  const nearest = nearestName(name, known);
  return new MoorlineError("invalid_option", `Unknown ${what}: \`${name}\``, {
    remedy: `${nearest ? `Did you mean \`${nearest}\`? ` : ""}Known are ${known.join(", ")}.`,
  });
}

function nearestName(name: string, known: readonly string[]): string | undefined {
  const lower = name.toLowerCase();
  // `timeout` should find `timeoutMs` and `callTimeoutMs`, however many letters lie between.
  const containing = known.find((candidate) => candidate.toLowerCase().includes(lower));
  if (containing !== undefined && lower.length > 2) return containing;
  const byDistance = known
    .map((candidate) => ({ candidate, distance: editDistance(lower, candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const best = byDistance[0];
  return best && best.distance <= Math.max(2, name.length / 3) ? best.candidate : undefined;
}

/** Levenshtein's distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

function wholeNumber(unit: string, from: number, to: number): Expectation {
  return {
    what: `a whole number of ${unit} from ${from} to ${to.toLocaleString("en")}`,
    fits: (value) => Number.isInteger(value) && (value as number) >= from && (value as number) <= to,
  };
}

function oneOf(...values: string[]): Expectation {
  return {
    what: values.map((value) => `"${value}"`).join(", ").replace(/, (?=[^,]*$)/, " or "),
    fits: (value) => values.includes(value as string),
  };
}

function show(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
