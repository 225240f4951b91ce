import { APPEND, HISTORY, SEND, type ChannelKind, type Encoding } from "./boundary.js";
import type { CallOptions } from "./call-types.js";
import { sender, type ChannelHost, type ChannelRequest, type Channels, type Update } from "./channel.js";
import type { Member, Position } from "./channel-types.js";
import { ChannelError } from "./errors.js";
import { aboutChannel, fromCore } from "./failure.js";
import type { Unsubscribe } from "./listeners.js";
import { Live, presenceFrom } from "./live.js";
import {
  checkHistoryOptions, checkPublishOptions, checkSendToOptions, checkTopicOptions, isName, unknownName,
} from "./options.js";
import { decode, encode, type Payload } from "./payload.js";
import { bytesOf, positionFrom } from "./position.js";
import type {
  HistoryOptions, HistoryPage, PublishOptions, Topic, TopicEvents, TopicMessage, TopicOptions, VolatileOptions,
} from "./topic-types.js";

const TOPIC: ChannelKind = 1;
/** How `from.member` is written. */
const MEMBER = /^[\da-f]{16}$/;
/** Values for each message, as `page` in `boundary.ts` has them. */
const EACH = 6;

/** @throws ChannelError `invalid_name`; MoorlineError `invalid_option` */
export function openTopic(channels: Channels, name: string, options: TopicOptions | undefined): LiveTopic {
  const {
    history = 0, echo = true, presence, members = true, since, buffer = 1_024, overflow = "pause", signal,
  } = checkTopicOptions(options);
  checkName(name);
  signal?.throwIfAborted();
  const attachment = channels.attachment({ kind: TOPIC, name, quiet: !echo, read });
  const wishes = {
    history,
    members,
    presence: presence === undefined ? undefined : presenceFrom(presence),
    since: since === undefined ? undefined : bytesOf(since),
  };
  return new LiveTopic(attachment, wishes, { buffer, overflow, signal });
}

/** Publishes, and what is volatile at once. */
export function publish(
  host: ChannelHost, name: string, data: unknown, options: PublishOptions | VolatileOptions | undefined,
): Promise<Position> | void {
  return options?.volatile ? publishVolatile(host, name, data, options) : publishKept(host, name, data, options);
}

function publishVolatile(host: ChannelHost, name: string, data: unknown, options: VolatileOptions): void {
  checkPublishOptions(options);
  checkName(name);
  const { encoding, body } = payloadOf(data);
  try {
    host.core()?.volatile(TOPIC, name, encoding, body);
  } catch (failure) {
    throw fromCore(ChannelError, failure);
  }
}

async function publishKept(
  host: ChannelHost, name: string, data: unknown, options: PublishOptions | undefined,
): Promise<Position> {
  const { volatile: _, ...checked } = checkPublishOptions(options);
  checkName(name);
  const answer = await host.request({ kind: TOPIC, what: APPEND, name, payload: payloadOf(data), options: checked });
  return positionFrom(answer!.body);
}

/** The implementation of `Topic`. */
export class LiveTopic extends Live<TopicMessage<any>> implements Topic<any> {
  on<E extends keyof TopicEvents<any>>(event: E, listener: (value: TopicEvents<any>[E]) => void): Unsubscribe {
    const { items: message, direct, gap } = this.events;
    const events = { message, direct, gap };
    if (!Object.hasOwn(events, event)) throw unknownName("event of topic.on()", event, Object.keys(events));
    return events[event].add(listener as (value: any) => void);
  }

  publish(data: any, options: VolatileOptions): void;
  publish(data: any, options?: PublishOptions): Promise<Position>;
  publish(data: any, options?: PublishOptions | VolatileOptions): Promise<Position> | void {
    if (this.current.status !== "closed") return publish(this.attachment.host, this.name, data, options);
    if (!options?.volatile) return Promise.reject(this.closedError());
  }

  async sendTo(member: string | Member, data: unknown, options?: CallOptions): Promise<void> {
    const checked = checkSendToOptions(options);
    const id = typeof member === "string" ? member : member?.id;
    if (!MEMBER.test(id)) throw new ChannelError("no_such_member", `${id} is no member's id`);
    const target = Uint8Array.from(id.match(/../g)!, (byte) => Number.parseInt(byte, 16));
    await this.#request({ what: SEND, target, payload: payloadOf(data), options: checked });
  }

  async history(options?: HistoryOptions): Promise<HistoryPage<any>> {
    const { before, limit = 50, ...wait } = checkHistoryOptions(options);
    const payload = { encoding: 0, body: new Uint8Array() };
    const target = before === undefined ? {} : { target: bytesOf(before) };
    const answer = await this.#request({ what: HISTORY, ...target, count: limit, payload, options: wait });
    const core = this.attachment.host.core();
    if (!core) throw this.closedError();
    return this.#page(core.page(answer!.body));
  }

  async #request(request: Omit<ChannelRequest, "kind" | "name">): Promise<Payload | undefined> {
    this.assertOpen();
    return this.attachment.host.request({ kind: TOPIC, name: this.name, ...request });
  }

  #page([more, ...flat]: unknown[]): HistoryPage<any> {
    const messages = [];
    for (let at = 0; at < flat.length; at += EACH) {
      const [position, time, member, subject, encoding, body] =
        flat.slice(at, at + EACH) as [Uint8Array, number, string, string, Encoding, Uint8Array];
      try {
        messages.push(read({
          position: positionFrom(position), at: time, recovered: true, from: sender(member, subject),
          payload: { encoding, body }, gap: undefined,
        }));
      } catch (unreadable) {
        this.attachment.host.report(fromCore(ChannelError, unreadable));
      }
    }
    return Object.freeze({ messages: Object.freeze(messages), more: Boolean(more) });
  }
}

function read({ position, at, recovered, from, payload, gap }: Update): TopicMessage<any> {
  const data = decode(payload.encoding, payload.body);
  return Object.freeze({ data, from, position, at, recovered, ...(gap && { gap }) });
}

function payloadOf(data: unknown): Payload {
  try {
    return encode(data);
  } catch (error) {
    throw aboutChannel(error);
  }
}

function checkName(name: unknown): asserts name is string {
  if (!isName(name)) throw new ChannelError("invalid_name");
}
