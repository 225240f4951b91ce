/** A stand-in for the wasm class `Core` that is connected to a `FakeServer`: one client with one store. */
import { MoorlineClient } from "../dist/client.js";
import { fromHex, toHex } from "../dist/hash.js";
import { randomId } from "../dist/queue.js";
import { settings } from "./fake-core.mjs";

const WHAT = { 1: "append", 5: "snapshot", 6: "keep", 7: "value" };

const texts = new Map();

/** Positions of the server, as the wire has them. */
function bytesOf(text) {
  const [epoch, offset, tag] = text.split(".");
  const varint = [];
  let rest = Number(offset);
  for (; rest >= 128; rest = Math.floor(rest / 128)) varint.push((rest % 128) | 128);
  const part = (hex) => fromHex(hex.padEnd(16, "0").slice(0, 16), 8);
  const bytes = Uint8Array.from([...part(epoch), ...varint, rest, ...part(tag)]);
  texts.set(toHex(bytes), text);
  return bytes;
}
const textOf = (bytes) => texts.get(toHex(bytes));

class ServedCore {
  constructor(host, link) {
    Object.assign(this, { host, link });
    link.core = this;
  }

  start() {}
  follow(kind, name, history, quiet, members, since) {
    this.since = since && textOf(since);
    this.channel = (this.channel ?? 0) + 1;
    this.isFollowing = true;
    if (this.link.isConnected) this.link.server.open(this.link, this.since);
    return this.channel;
  }
  hold() { this.unfollow(); }
  unfollow() {
    this.isFollowing = false;
    // What was on its way comes all the same, and an answer must.
    this.link.incoming = this.link.incoming.filter(({ id }) => id !== undefined);
  }
  request(kind, what, name, target, count, encoding, body, timeoutMs, key) {
    return this.link.request({
      what: WHAT[what], data: new Uint8Array(body), key, target: target && (what === 5 ? textOf(target) : target),
    });
  }
  cancel(id) { this.link.waiting.delete(id); }
  notify() {}
  authorized() {}
  retryNow() {}
  stats() { return { bytesSent: 0, bytesReceived: 0, buffered: 0 }; }
  close() {
    this.link.lose();
    this.host.onStatus({ status: "closed", attempt: 1 });
  }
  free() {}
}

/** The connection of one page; the other end is a `FakeServer`. */
export class Link {
  subject = "ann";
  isConnected = false;
  outgoing = [];
  incoming = [];
  waiting = new Map();
  #nextId = 1;
  #member = randomId().slice(0, 16);
  #isDead = false;

  constructor(server) {
    this.server = server;
    server.stores.add(this);
    const link = this;
    const Core = class extends ServedCore { constructor(_options, host) { super(host, link); } };
    this.client = new MoorlineClient(settings, { findWebSocket: async () => class {}, loadCore: async () => Core });
  }

  get session() { return this.#member; }

  connect({ isNew = true } = {}) {
    if (this.isConnected || this.#isDead || !this.core) return;
    this.isConnected = true;
    if (isNew) this.#member = randomId().slice(0, 16);
    const identity = new TextEncoder().encode(JSON.stringify({ subject: this.subject, tenant: "" }));
    const { host } = this.core;
    host.onSession({
      id: this.#member, member: this.#member, encryption: { suite: "off", trust: "none" }, serverVersion: "0",
      limits: { maxMessage: 2 ** 22, maxCallsInFlight: 1024 }, heartbeatMs: 1, serverTimeMs: 0, url: "", resumed: !isNew,
      admission: { identity },
    });
    host.onStatus({ status: "connected", attempt: 1 });
    if (this.core.isFollowing) this.server.open(this, this.core.since);
    for (const [id, request] of this.waiting) {
      // What was on its way without a key, nobody knows about.
      if (request.key !== undefined || !request.isSent) this.#transmit(request);
      else this.#settle({ id, failure: { code: "unknown", message: "" } });
    }
  }

  lose() {
    if (!this.isConnected) return;
    this.isConnected = false;
    this.outgoing = [];
    this.incoming = [];
    if (!this.#isDead) this.core.host.onStatus({ status: "connecting", attempt: 1, error: { code: "connection_lost", message: "" } });
  }

  crash() {
    this.#isDead = true;
    this.lose();
    this.server.stores.delete(this);
    // Whatever the page still asks for, nobody hears.
    this.core?.host && (this.core.host = undefined);
  }

  request(request) {
    const id = this.#nextId++;
    const asked = { ...request, id };
    this.waiting.set(id, asked);
    if (this.isConnected) this.#transmit(asked);
    return id;
  }

  #transmit(request) {
    request.isSent = true;
    this.outgoing.push(request);
  }

  #settle({ id, result, failure }) {
    if (!this.waiting.delete(id)) return;
    const { host } = this.core;
    if (failure) host.onSettled(id, false, 0, undefined, { code: failure.code, message: "" });
    else host.onSettled(id, true, 0, typeof result === "string" ? bytesOf(result) : result ?? new Uint8Array(), undefined);
  }

  receive({ opened, update, before, snapshot, synced, id, result, failure }) {
    const { host, channel } = this.core;
    if (opened) {
      this.core.since = opened.isNew ? opened.position : opened.recovered ? this.core.since : undefined;
      const position = this.core.since && bytesOf(this.core.since);
      host.onChannelOpened(channel, opened.recovered ? "recovered" : opened.gap ?? "new", position, 0);
    } else if (update) {
      const at = `${update.epoch}.${update.offset}.${update.tag}`;
      this.core.since = at;
      host.onUpdate(channel, bytesOf(at), 0, before, update.author, "", 0, update.data);
    } else if (snapshot) {
      const { epoch, offset, tag } = snapshot.mark;
      this.core.since = `${epoch}.${offset}.${tag}`;
      host.onSnapshot(channel, bytesOf(this.core.since), 0, snapshot.data);
    } else if (synced) {
      host.onCaughtUp(channel);
    } else {
      this.#settle({ id, result, failure });
    }
  }

  close() { return this.client.close(); }
}
