import type { Client, Direct, Member, Topic } from "moorline";

import { PeerLink, type Signal } from "./peer-link";
import { remedyOf } from "./trouble";
import type { ChannelApi } from "./api";

/** Another page, as this one knows it: a member of the topic, a line to it, or both. */
export interface Peer {
  id: string;
  subject: string;
  /** `undefined`: it is not in the topic, so that only a line is left. */
  member: Member | undefined;
  link: PeerLink | undefined;
}

interface Known {
  subject: string;
  link: PeerLink;
  /** As which member it says that it is in the topic now. */
  claimed: string | undefined;
}

/** Whether this browser has WebRTC, and lets pages use it. */
export const CAN_CONNECT = "RTCPeerConnection" in globalThis;

/** Who answers everybody has to stop somewhere. */
const MAX_LINKS = 16;

/** The other pages of a topic, and the lines to them, which are agreed on by messages to one member alone. */
export class Peers {
  readonly #client: Client<ChannelApi>;
  readonly #topic: Topic<never>;
  readonly #changed: () => void;
  /** By the member at the other end. */
  readonly #known = new Map<string, Known>();

  constructor(client: Client<ChannelApi>, name: `peers:${string}`, changed: () => void) {
    this.#client = client;
    this.#changed = changed;
    this.#topic = client.topic(name, { presence: { canConnect: CAN_CONNECT } });
    this.#topic.on("direct", (direct) => this.#heard(direct));
    this.#topic.members.subscribe(() => this.#follow());
    // A new session is another member. Whom we have a line to hears it there: the server knows nothing of lines.
    client.on("session", ({ member }) => { for (const { link } of this.#known.values()) link.tellMember(member); });
  }

  get members(): readonly Member[] {
    return this.#topic.members.current;
  }

  get all(): Peer[] {
    const others = this.members.filter(({ me }) => !me);
    const present = new Set(others.map(({ id }) => id));
    const left = [...this.#known].filter(([id, { link }]) => !present.has(id) && link.state.at === "open");
    return [
      ...others.map((member): Peer => ({ id: member.id, subject: member.subject, member, link: this.#known.get(member.id)?.link })),
      ...left.map(([id, { subject, link }]): Peer => ({ id, subject, member: undefined, link })),
    ];
  }

  connect({ id, subject }: Member): void {
    this.#link(id, subject);
  }

  /** Hangs up everywhere, so that nobody waits for a page that is gone. */
  close(): void {
    for (const { link } of this.#known.values()) link.close();
    this.#known.clear();
    this.#changed();
  }

  /** A line to a member, in place of one that there may be. */
  #link(id: string, subject: string): PeerLink | undefined {
    const own = this.#client.session?.member;
    if (own === undefined || !CAN_CONNECT) return undefined;
    const before = this.#known.get(id)?.link;
    this.#known.delete(id);
    before?.close();
    const link: PeerLink = new PeerLink({
      send: (signal) => void this.#send(link, id, signal),
      moved: (member) => this.#claim(link, member),
      changed: () => this.#changed(),
    }, own < id);
    this.#known.set(id, { subject, link, claimed: undefined });
    this.#changed();
    return link;
  }

  async #send(link: PeerLink, id: string, signal: Signal): Promise<void> {
    try {
      await this.#topic.sendTo(id, signal);
    } catch (error) {
      // An open line needs no messages.
      if (link.state.at === "connecting") link.end(remedyOf(error));
    }
  }

  #claim(link: PeerLink, member: string): void {
    for (const known of this.#known.values()) if (known.link === link) known.claimed = member;
    this.#follow();
  }

  #heard({ data, from: { member, subject } }: Direct): void {
    const signal = signalFrom(data);
    if (!signal) return;
    let link = this.#known.get(member)?.link;
    if (link?.state.at === "over") link = undefined;
    // For an end of ours that is gone.
    if (signal.to !== null && signal.to !== link?.id) return;
    const isOther = link !== undefined && link.remoteId !== null && link.remoteId !== signal.from;
    if (!link || isOther) {
      if (signal.description?.type !== "offer" || this.#isFull) return;
      link = this.#link(member, subject);
    }
    if (!link) return;
    link.remoteId = signal.from;
    link.take(signal);
  }

  get #isFull(): boolean {
    return [...this.#known.values()].filter(({ link }) => link.state.at !== "over").length >= MAX_LINKS;
  }

  /**
   * Finds those again who are another member now, as they have said on the line itself. The name has to be the same, and
   * that is the server's word, so that nobody takes another's place.
   */
  #follow(): void {
    const present = new Map(this.members.map((member) => [member.id, member]));
    for (const [id, known] of [...this.#known]) {
      const { claimed = id, link } = known;
      known.subject = present.get(id)?.subject ?? known.subject;
      if (claimed !== id && present.get(claimed)?.subject === known.subject && !this.#known.has(claimed)) {
        this.#known.delete(id);
        this.#known.set(claimed, known);
      } else if (!present.has(id) && link.state.at === "over") {
        this.#known.delete(id);
      }
    }
    this.#changed();
  }
}

/** Whatever a member sends, as a signal if it is one. What a description or a candidate says the browser checks. */
function signalFrom(data: unknown): Signal | undefined {
  if (typeof data !== "object" || data === null) return undefined;
  const { from, to, description, candidate, bye } = data as Partial<Record<keyof Signal, unknown>>;
  if (typeof from !== "string" || (to !== null && typeof to !== "string")) return undefined;
  const isDescribed = typeof description === "object" && description !== null && "type" in description
    && (description.type === "offer" || description.type === "answer");
  return {
    from, to,
    ...(isDescribed && { description: description as RTCSessionDescriptionInit }),
    ...(typeof candidate === "object" && candidate !== null && { candidate }),
    ...(bye === true && { bye }),
  };
}
