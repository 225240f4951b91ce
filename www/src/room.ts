import type { Client } from "moorline";

import type { Api, Joined, Member, Message, Point, Roll, SignIn } from "./api";

/** What the room tells those who show it. */
export interface RoomView {
  /** Joined, for the first time or again. `missed` are the messages not shown yet. */
  entered(you: Member, missed: Missed[], isNewRoom: boolean): void;
  members(members: readonly Member[], you: number): void;
  said(message: Message, isOwn: boolean): void;
  cleared(by: string): void;
  noted(member: Member, what: string): void;
  moved(id: number, at: Point): void;
}

export interface Missed {
  message: Message;
  isOwn: boolean;
}

/** A room that does not let us in goes on telling. */
const MAX_EARLY = 500;

/** The page's picture of the room. It joins in every new session, as whoever the connection says that it is. */
export class Room {
  readonly #client: Client<Api>;
  readonly #view: RoomView;

  #members = new Map<number, Member>();
  #you = 0;
  /** Every number that was ours; a new session gives a new one. */
  #own = new Set<number>();
  #openedAtMs = 0;
  #lastMessage = 0;
  /** What came before the answer to `join`, which is a snapshot and may be younger or older than that. */
  #early: (() => void)[] | undefined = [];
  #isJoining = false;
  readonly #door = new Door();

  constructor(client: Client<Api>, view: RoomView) {
    this.#client = client;
    this.#view = view;

    // A call waits for the next connection by itself, but in a new session it would come before the new `join`.
    // At the end there is nothing to wait for, and whoever waits hears so from his call.
    client.on("status", ({ status }) => {
      if (status === "connecting") this.#door.close();
      if (status === "closed") this.#door.open();
    });
    const on = <N extends keyof Api["listens"]>(event: N, change: (value: Api["listens"][N]) => void): void => {
      client.listen(event, (value) => {
        if (!this.#early) change(value);
        else if (this.#early.length < MAX_EARLY) this.#early.push(() => change(value));
      });
    };
    on("joined", (member) => this.#set(member, "joined"));
    on("turned", (member) => {
      const before = this.#members.get(member.id);
      const isNamed = before && before.name !== member.name;
      this.#set(member, !before ? "joined" : isNamed ? `was ${before.name}` : `is ${withArticle(member.role)} now`);
    });
    on("left", (member) => {
      if (!this.#members.delete(member.id)) return;
      this.#view.noted(member, "left");
      this.#tell();
    });
    on("said", (message) => this.#say(message));
    on("cleared", ({ by }) => this.#view.cleared(by));
    on("cursor", ({ id, x, y }) => this.#members.has(id) && this.#view.moved(id, { x, y }));
  }

  /** To be called for every connection. In a resumed session we are still inside, and missed nothing. */
  async enter(resumed: boolean): Promise<void> {
    if (resumed && !this.#early) return this.#door.open();
    if (resumed && this.#isJoining) return;
    this.#isJoining = true;
    await this.#join().finally(() => (this.#isJoining = false));
  }

  async #join(): Promise<void> {
    this.#door.close();
    this.#early = [];
    const joined = await this.#client.call("join");
    const early = this.#early ?? [];
    this.#early = undefined;
    this.#show(joined);
    for (const change of early) change();
    this.#door.open();
  }

  /** Says something as soon as it is inside, so that one can go on writing while the line is cut. */
  async say(text: string): Promise<void> {
    await this.#door.passed;
    await this.#client.call("say", { text });
  }

  async roll(): Promise<Roll> {
    await this.#door.passed;
    return this.#client.call("roll");
  }

  /** Becomes somebody else on the open connection, or throws why not and stays. */
  async turn(auth: SignIn): Promise<Member> {
    await this.#door.passed;
    await this.#client.authenticate({ auth });
    const me = await this.#client.call("turn");
    this.#set(me, "");
    return me;
  }

  async clear(): Promise<void> {
    await this.#client.call("clear");
  }

  async dismiss(id: number): Promise<void> {
    await this.#client.call("dismiss", { id });
  }

  #show({ you, openedAtMs, members, messages }: Joined): void {
    const isNewRoom = openedAtMs !== this.#openedAtMs;
    if (isNewRoom) {
      this.#lastMessage = 0;
      this.#own.clear();
    }
    this.#openedAtMs = openedAtMs;
    this.#you = you;
    this.#own.add(you);
    this.#members = new Map(members.map((member) => [member.id, member]));
    const missed = messages
      .filter((message) => message.id > this.#lastMessage)
      .map((message) => ({ message, isOwn: this.#own.has(message.from) }));
    this.#lastMessage = messages.at(-1)?.id ?? this.#lastMessage;
    this.#view.entered(this.#members.get(you)!, missed, isNewRoom);
    this.#tell();
  }

  #say(message: Message): void {
    if (message.id <= this.#lastMessage) return;
    this.#lastMessage = message.id;
    this.#view.said(message, this.#own.has(message.from));
  }

  #set(member: Member, note: string): void {
    const before = this.#members.get(member.id);
    const isKnown = before?.name === member.name && before.role === member.role;
    this.#members.set(member.id, member);
    if (!isKnown && note) this.#view.noted(member, note);
    this.#tell();
  }

  #tell(): void {
    this.#view.members([...this.#members.values()], this.#you);
  }
}

export function withArticle(role: Member["role"]): string {
  return role === "admin" ? "an admin" : `a ${role}`;
}

/** What one waits at to be inside. Who waits while it is shut again waits on. */
class Door {
  passed!: Promise<void>;
  open!: () => void;
  #isOpen = true;

  constructor() {
    this.close();
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.passed = new Promise((resolve) => {
      this.open = () => {
        this.#isOpen = true;
        resolve();
      };
    });
  }
}
