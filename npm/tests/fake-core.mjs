/** A stand-in for the wasm class `Core`: records what the shell asks of it, and says what a test tells it to. */

/** Waits until every task and microtask that is due has run. */
export const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

export const bytes = (value) => new TextEncoder().encode(JSON.stringify(value));
export const value = (body) => JSON.parse(new TextDecoder().decode(body));
export const failure = (code, more) => ({ code, message: "", remedy: "", retryable: false, ...more });

/** Where the n-th message of a topic is, in bytes. */
export const position = (n) => Uint8Array.of(...[1, 2, 3, 4, 5, 6, 7, 8], ...varint(n), ...[n % 256, 0, 0, 0, 0, 0, 0, 251]);
const varint = (n) => (n < 128 ? [n] : [n % 128 + 128, ...varint(Math.floor(n / 128))]);

/** Members as the core tells them: `{ id, left, away, subject, data }`. */
const flat = (members) => members.flatMap(({ id, left, away, subject = "ann", data = null }) =>
  left ? [id, 0, "", 0, 0, 0, undefined] : [id, away ? 2 : 1, subject, 10, away ?? 0, 1, bytes(data)]);

export const ME = "00000000000000aa";

export const session = {
  id: "s1",
  member: ME,
  encryption: { suite: "aes-256-gcm", trust: "pinned", serverKey: "mlpub_x" },
  serverVersion: "0.1.0",
  limits: { maxMessage: 64_512, maxCallsInFlight: 1024, messagesPerSecond: 1000, bytesPerSecond: undefined },
  heartbeatMs: 25_000,
  serverTimeMs: 0,
  url: "ws://test/moorline",
  resumed: false,
};


export class FakeCore {
  /** What the shell did, in order: `[method, ...arguments]`. */
  log = [];
  /** Failures that the next call of a method throws, by method. */
  throws = {};
  freed = false;
  /** Whether nobody has seen yet what was to be shown. */
  unseen = false;
  #nextId = 1;
  #nextReceipt = 1;
  #nextShown = 1;
  #nextChannel = 1;

  constructor(options, host) {
    this.options = options;
    this.host = host;
  }

  #record(method, ...args) {
    if (this.freed) throw new Error(`${method}() on a freed core`);
    this.log.push([method, ...args]);
    const thrown = this.throws[method];
    delete this.throws[method];
    if (thrown) throw thrown;
  }

  start() { this.#record("start"); }
  call(name, encoding, body, timeoutMs, ...keyAndCredit) {
    this.#record("call", name, encoding === 1 ? value(body) : body, timeoutMs, ...keyAndCredit);
    return this.#nextId++;
  }
  follow(kind, name, history, quiet, members, since, encoding, data, past, instead) {
    const shown = data && (encoding === 1 ? value(data) : data);
    const more = { ...(past && { past }), ...(instead && { instead }) };
    this.#record("follow", kind, name, { history, quiet, members, since, data: shown, ...more });
    return this.#nextChannel++;
  }
  hold(id) { this.#record("hold", id); }
  unfollow(id) { this.#record("unfollow", id); }
  request(kind, what, name, target, count, encoding, body, timeoutMs, key) {
    this.#record("request", kind, what, name, { target, count, body: encoding === 1 ? value(body) : body, timeoutMs, key });
    return this.#nextId++;
  }
  volatile(kind, name, encoding, body) { this.#record("volatile", kind, name, encoding === 1 ? value(body) : body); }
  page(body) { return value(body).flatMap((n) => (typeof n === "number" ? [position(n), n, "", "", 1, bytes({ n })] : [n])); }
  grant(id, more) { this.#record("grant", id, more); }
  notifyConfirmed(name, encoding, body) {
    this.#record("notifyConfirmed", name, encoding === 1 ? value(body) : body);
    return this.#nextReceipt++;
  }
  item(id, encoding, body) { this.#record("item", id, encoding === 1 ? value(body) : body); }
  end(id) { this.#record("end", id); }
  cancel(id) { this.#record("cancel", id); }
  notify(name, encoding, body, volatile) { this.#record("notify", name, encoding === 1 ? value(body) : body, volatile); }
  reply(id, encoding, body) { this.#record("reply", id, encoding === 1 ? value(body) : body); }
  fail(id, code, message, encoding, data) { this.#record("fail", id, code, message, encoding === 1 ? value(data) : data); }
  discovered(ticket, result) { this.#record("discovered", ticket, result); }
  authorized(ticket, has, token, encoding, data) {
    this.#record("authorized", ticket, has, token, ...(data ? [encoding === 1 ? value(data) : data] : []));
  }
  authenticate(token, encoding, data) {
    this.#record("authenticate", token, ...(data ? [encoding === 1 ? value(data) : data] : []));
    return this.#nextShown++;
  }
  withdraw(id) { this.#record("withdraw", id); return this.unseen; }
  clientKey() { return Uint8Array.of(251, 255); }
  retryNow() { this.#record("retryNow"); }
  ping() { this.#record("ping"); }
  stats() { return { bytesSent: 3, bytesReceived: 4, rttMs: 5, buffered: 0 }; }
  close() { this.#record("close"); }
  free() { this.#record("free"); this.freed = true; }

  /** The calls of these methods alone. */
  only(...methods) { return this.log.filter(([method]) => methods.includes(method)); }

  // What the server and the network do.
  connected(info = session) {
    this.host.onSession({ admission: {}, ...info });
    this.host.onStatus({ status: "connected", attempt: 1 });
  }
  lost(more) { this.host.onStatus({ status: "connecting", attempt: 1, retryInMs: 100, error: failure("connection_lost"), ...more }); }
  closed(error) { this.host.onStatus({ status: "closed", attempt: 1, error }); }
  answers(id, result) {
    if (result instanceof Uint8Array) this.host.onSettled(id, true, 0, result, undefined);
    else this.host.onSettled(id, true, 1, bytes(result), undefined);
  }
  gives(id, ...items) { for (const item of items) this.host.onItem(id, 1, bytes(item)); }
  ends(id) { this.host.onSettled(id, true, 0, undefined, undefined); }
  opens(id, start = "new", at, past = 0) { this.host.onChannelOpened(id, start, at === undefined ? undefined : position(at), past); }
  /** Messages `{ n }` of a topic. */
  tells(id, ...numbers) { for (const n of numbers) this.host.onUpdate(id, position(n), n, false, "b0", "bob", 1, bytes({ n })); }
  recalls(id, ...numbers) { for (const n of numbers) this.host.onUpdate(id, position(n), n, true, "b0", "bob", 1, bytes({ n })); }
  flashes(id, n) { this.host.onVolatile(id, n, "b0", "bob", 1, bytes({ n })); }
  members(id, whole, ...members) { this.host.onMembers(id, whole, flat(members)); }
  /** Patches of a store: `n` by somebody else, or as it is said. */
  patches(id, ...patches) {
    for (const patch of patches) {
      const { n, by = "b0", before = false, body = Uint8Array.of(n) } = typeof patch === "number" ? { n: patch } : patch;
      this.host.onUpdate(id, position(n), n, before, by, "bob", 0, body);
    }
  }
  covers(id, n, body = Uint8Array.of(n)) { this.host.onSnapshot(id, position(n), n, body); }
  refuses(id, code, more) { this.host.onSettled(id, false, 1, undefined, failure(code, more)); }
}

/** Settings as `settingsFrom` makes them. */
export const settings = {
  url: "ws://test/moorline",
  encryption: "aes-256-gcm",
  serverKeys: [],
  allowInsecureDiscovery: false,
  sharedKey: "",
  asksForCredentials: false,
  token: undefined,
  auth: undefined,
  connectTimeoutMs: 10_000,
  callTimeoutMs: 10_000,
  reconnect: true,
  reconnectBaseMs: 1,
  reconnectMaxMs: 1,
  clientVersion: "0.1.0",
  offline: "queue",
};

class FakeSocket {
  constructor(url, protocols) { Object.assign(this, { url, protocols }); }
}

/** An environment whose core is fake; `core` is there once the client made it. */
export function environment(overrides) {
  const made = {
    cores: [],
    loads: 0,
    get core() { return made.cores.at(-1); },
    findWebSocket: async () => FakeSocket,
    loadCore: async () => {
      made.loads++;
      return class extends FakeCore {
        constructor(...args) {
          super(...args);
          made.cores.push(this);
        }
      };
    },
  };
  return Object.assign(made, overrides);
}
