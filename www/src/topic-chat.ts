import type { Client, GapReason, Topic, TopicMessage } from "moorline";

import { Chat, type Saying } from "./chat";
import { element, make } from "./dom";
import { remedyOf } from "./trouble";
import { Unread } from "./unread";
import type { ChannelApi } from "./api";

type Message = TopicMessage<{ text: string }>;

const HISTORY = 50;
/** What is sent sooner need not be seen to wait. */
const SOON_MS = 300;

const GAPS: Record<GapReason, string> = {
  recreated: "The server has begun this chat anew",
  diverged: "The server has lost some of what was here",
  trimmed: "Some messages are missing: more was said meanwhile than the server keeps",
  overflow: "Some messages are missing: they came faster than this page could show them",
};

/** The messages of a topic, older ones when asked for, and what waits to be sent. */
export class TopicChat {
  readonly #client: Client<ChannelApi>;
  readonly #topic: Topic<{ text: string }>;
  readonly #chat = new Chat(element("log"));
  readonly #unread = new Unread();
  readonly #older = element<HTMLButtonElement>("older");
  /** The first that is shown: before it is what the button gets. */
  #oldest: string | undefined;
  #shown = 0;
  /** "While you were away" has been said of this connection. */
  #saidAway = false;

  constructor(client: Client<ChannelApi>, name: `chat:${string}`) {
    this.#client = client;
    this.#topic = client.topic(name, { history: HISTORY, presence: {} });
    this.#older.addEventListener("click", () => this.#showOlder());
    this.#topic.subscribe(({ status }) => { if (status !== "open") this.#saidAway = false; });
    void this.#read();
  }

  get members(): Topic<{ text: string }>["members"] {
    return this.#topic.members;
  }

  /** Sends something now or as soon as the line is back; until then it stands below the messages, with what kept it. */
  async say(text: string): Promise<void> {
    // By its name the server takes it once, however often it is sent.
    const idempotencyKey = crypto.randomUUID();
    const said = make("span", "text", text);
    said.dir = "auto";
    const state = make("span", "quiet", "waits");
    const entry = make("li", "", said, " ", state);
    const show = (): void => element("waiting").append(entry);
    const showing = setTimeout(show, SOON_MS);
    for (let isDone = false; !isDone;) {
      try {
        await this.#topic.publish({ text }, { idempotencyKey, timeoutMs: Infinity });
        isDone = true;
      } catch (error) {
        if (!entry.isConnected) show();
        isDone = !(await this.#asksAgain(state, error));
        state.replaceChildren("waits");
      }
    }
    clearTimeout(showing);
    entry.remove();
  }

  async #read(): Promise<void> {
    try {
      for await (const message of this.#topic) this.#show(message);
    } catch (error) {
      this.#chat.note(remedyOf(error));
    }
  }

  #show(message: Message): void {
    const { gap, recovered, position } = message;
    if (gap) this.#tellGap(gap);
    this.#oldest ??= position;
    this.#shown += 1;
    if (!recovered) {
      this.#chat.say(saying(message), this.#isOwn(message));
      if (!this.#isOwn(message)) this.#unread.add();
      return;
    }
    this.#chat.quietly(() => {
      this.#tellAway();
      this.#chat.say(saying(message), this.#isOwn(message));
    });
    // It may be all there is; who asks for more is told.
    if (this.#shown === HISTORY) this.#older.hidden = false;
  }

  /** Once for each time that the topic went on where it was. */
  #tellAway(): void {
    if (this.#topic.current.recovered === undefined || this.#saidAway) return;
    this.#saidAway = true;
    this.#chat.note("While you were away");
  }

  #tellGap(gap: GapReason): void {
    if (gap === "recreated" || gap === "diverged") {
      this.#chat.clear();
      this.#oldest = undefined;
      this.#shown = 0;
      this.#older.hidden = true;
    }
    this.#chat.note(GAPS[gap]);
  }

  async #showOlder(): Promise<void> {
    if (this.#older.ariaDisabled === "true" || this.#oldest === undefined) return;
    this.#older.ariaDisabled = "true";
    const before = this.#oldest;
    try {
      const { messages, more } = await this.#topic.history({ before, limit: HISTORY });
      if (this.#oldest !== before) return;
      this.#oldest = messages[0]?.position ?? before;
      this.#chat.sayEarlier(messages.map(saying), ({ name }) => name === this.#client.identity?.subject);
      this.#older.hidden = !more;
      if (!more) element("text").focus();
    } catch (error) {
      this.#chat.note(remedyOf(error));
    } finally {
      this.#older.ariaDisabled = null;
    }
  }

  /** Whose it is the server says; a subject is somebody, over all their pages and sessions. */
  #isOwn({ from }: Message): boolean {
    return from.subject === this.#client.identity?.subject;
  }

  /** Says what went wrong. Whether to try again. */
  #asksAgain(state: HTMLElement, error: unknown): Promise<boolean> {
    return new Promise((resolve) => {
      const choice = (words: string, isAgain: boolean): HTMLElement => {
        const button = make("button", "small", words);
        button.type = "button";
        button.addEventListener("click", () => {
          resolve(isAgain);
          element("text").focus();
        });
        return button;
      };
      state.replaceChildren(remedyOf(error), " ", choice("Try again", true), " ", choice("Forget it", false));
    });
  }
}

function saying({ data, from, at }: Message): Saying {
  return { name: from.subject || "the server", text: data.text, atMs: at };
}
