import { readable } from "./time";

/** What two pages tell each other, by way of the server, until they have a line of their own. */
export interface Signal {
  /** Whose end this is of, and of which end of the other page's it is about: `null` where none is known yet. */
  from: string;
  to: string | null;
  description?: RTCSessionDescriptionInit;
  candidate?: RTCIceCandidateInit;
  /** The end is gone. */
  bye?: true;
}

/** What they tell each other on that line. */
type Note = { ping: number } | { pong: number } | { member: string };

export type LinkState =
  | { at: "connecting" }
  | { at: "open"; rttMs: number | undefined; answered: number }
  | { at: "over"; why: string };

export interface LinkHost {
  send(signal: Signal): void;
  changed(): void;
  /** The other page says as which member it is in the topic now. */
  moved(member: string): void;
}

const PING_MS = 2_000;
/** Longer than candidates take to be tried where there is a way at all. */
const PATIENCE_MS = 20_000;
const MAX_NOTE = 1_000;

/**
 * A line from this page to another one: a data channel of WebRTC.
 *
 * Both pages may begin at once. Then the polite one takes its own offer back and answers the other's: perfect negotiation,
 * as in the specification of WebRTC, section 10.7.
 */
export class PeerLink {
  readonly id = crypto.randomUUID();
  /** The other page's end, once it is known. */
  remoteId: string | null = null;

  readonly #host: LinkHost;
  readonly #isPolite: boolean;
  // No STUN and no TURN: pages of one network find each other without.
  readonly #connection = new RTCPeerConnection({ iceServers: [] });
  readonly #channel: RTCDataChannel;
  readonly #patience: ReturnType<typeof setTimeout>;
  #state: LinkState = { at: "connecting" };
  #isOffering = false;
  #isTakingAnswer = false;
  #ignoresOffer = false;

  #pinging: ReturnType<typeof setInterval> | undefined;
  /** The ping that is not answered yet, and when it left. */
  #asked: { ping: number; at: number } | undefined;
  #pings = 0;

  /** @param isPolite whether this page gives way; of two pages one has to */
  constructor(host: LinkHost, isPolite: boolean) {
    this.#host = host;
    this.#isPolite = isPolite;
    // Both have made the same channel, whoever's offer it is that counts.
    this.#channel = this.#connection.createDataChannel("moorline", { negotiated: true, id: 0 });
    this.#channel.onopen = () => this.#opened();
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    this.#channel.onclose = () => this.end("The other page has closed it");
    this.#connection.onnegotiationneeded = () => this.#try(() => this.#offer());
    this.#connection.onicecandidate = ({ candidate }) => { if (candidate) this.#send({ candidate: candidate.toJSON() }); };
    this.#connection.onconnectionstatechange = () => {
      if (this.#connection.connectionState === "failed") this.end("There is no way from one page to the other");
    };
    this.#patience = setTimeout(() => this.end("No answer"), PATIENCE_MS);
  }

  get state(): LinkState {
    return this.#state;
  }

  /** What the other page says by way of the server. */
  take({ description, candidate, bye }: Signal): void {
    if (bye) this.end("The other page has closed it");
    else if (description) this.#try(() => this.#takeDescription(description));
    // One that does not fit is not used; another may.
    else if (candidate) this.#connection.addIceCandidate(candidate).catch(() => {});
  }

  ping(): void {
    if (this.#channel.readyState !== "open") return;
    this.#asked = { ping: ++this.#pings, at: performance.now() };
    this.#note({ ping: this.#pings });
  }

  /** Tells the other page as which member this one is in the topic: after a restart of the server it is another one. */
  tellMember(member: string): void {
    this.#note({ member });
  }

  /** Hangs up. */
  close(): void {
    if (this.#state.at === "connecting") this.#send({ bye: true });
    this.end("You have closed it");
  }

  end(why: string): void {
    if (this.#state.at === "over") return;
    clearTimeout(this.#patience);
    clearInterval(this.#pinging);
    this.#connection.close();
    this.#to({ at: "over", why });
  }

  async #offer(): Promise<void> {
    try {
      this.#isOffering = true;
      await this.#connection.setLocalDescription();
      this.#describe();
    } finally {
      this.#isOffering = false;
    }
  }

  async #takeDescription(description: RTCSessionDescriptionInit): Promise<void> {
    const isFree = !this.#isOffering && (this.#connection.signalingState === "stable" || this.#isTakingAnswer);
    this.#ignoresOffer = !this.#isPolite && description.type === "offer" && !isFree;
    if (this.#ignoresOffer) return;
    this.#isTakingAnswer = description.type === "answer";
    await this.#connection.setRemoteDescription(description);
    this.#isTakingAnswer = false;
    if (description.type !== "offer") return;
    await this.#connection.setLocalDescription();
    this.#describe();
  }

  #describe(): void {
    const description = this.#connection.localDescription;
    if (description) this.#send({ description: description.toJSON() });
  }

  #send(what: Omit<Signal, "from" | "to">): void {
    this.#host.send({ from: this.id, to: this.remoteId, ...what });
  }

  /** What fails after the end fails because of it. */
  #try(step: () => Promise<void>): void {
    step().catch((error: unknown) => this.end(`It could not be agreed on: ${error}`));
  }

  #opened(): void {
    clearTimeout(this.#patience);
    this.#to({ at: "open", rttMs: undefined, answered: 0 });
    this.ping();
    this.#pinging = setInterval(() => this.ping(), PING_MS);
  }

  #note(note: Note): void {
    if (this.#channel.readyState === "open") this.#channel.send(JSON.stringify(note));
  }

  /** The other page may say anything. */
  #heard(data: unknown): void {
    if (typeof data !== "string" || data.length > MAX_NOTE) return;
    const note = parsed(data);
    if (typeof note.ping === "number") this.#note({ pong: note.ping });
    if (typeof note.member === "string") this.#host.moved(note.member);
    if (this.#state.at !== "open" || this.#asked === undefined || note.pong !== this.#asked.ping) return;
    this.#to({ at: "open", rttMs: performance.now() - this.#asked.at, answered: this.#state.answered + 1 });
    this.#asked = undefined;
  }

  #to(state: LinkState): void {
    this.#state = state;
    this.#host.changed();
  }
}

function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** A state, as a person reads it. */
export function wordsOf(state: LinkState | undefined): string {
  switch (state?.at) {
    case undefined: return "Not connected";
    case "connecting": return "Connecting…";
    case "over": return state.why;
    case "open": {
      if (state.rttMs === undefined) return "Connected, asking…";
      const pings = state.answered === 1 ? "1 ping" : `${state.answered} pings`;
      return `Connected: there and back in ${readable(state.rttMs)}, ${pings} answered`;
    }
  }
}
