import { connect } from "moorline";

import { Chat } from "./chat";
import { DiceTable } from "./dice";
import { element, make, nameTag } from "./dom";
import { Harbour } from "./harbour";
import { Line } from "./line";
import { keepName, ownName } from "./names";
import { Room } from "./room";
import { CuttableSocket } from "./socket";
import { remedyOf } from "./trouble";
import type { Api, Member } from "./api";

let name = ownName();
const client = connect<Api>("/moorline", { webSocket: CuttableSocket });

const chat = new Chat(element("log"));
const harbour = new Harbour(element("harbour"), (at) => client.notify("cursor", at, { volatile: true }));
const room = new Room(
  client,
  {
    entered(you, missed, isNewRoom) {
      chat.quietly(() => {
        if (isNewRoom) chat.clear();
        for (const { message, isOwn } of missed) chat.say(message, isOwn);
        chat.note(isNewRoom ? "You are in, as " : "You are back, as ", nameTag(you.name));
        if (isNewRoom && missed.length === 0) chat.note("Open this page in a second window to have company");
      });
      harbour.tellAgain();
      problem("chat-problem");
    },
    members(members, you) {
      showMembers(members, you);
      harbour.show(members, you);
    },
    said(message, isOwn) {
      chat.say(message, isOwn);
      if (!isOwn) unread.add();
    },
    noted: (member, what) => chat.note(nameTag(member.name), ` ${what}`),
    moved: (id, at) => harbour.move(id, at),
  },
  () => name,
);

new Line(client);
new DiceTable(() => room.roll());
client.listen("rolled", ({ name, dice }) => chat.roll(name, dice));
client.on("session", ({ resumed }) => room.enter(resumed).catch((error) => problem("chat-problem", error)));
client.on("error", (error) => problem("chat-problem", error));

const nameInput = element<HTMLInputElement>("name");
nameInput.value = name;
element("name-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  problem("name-problem");
  try {
    const me = await room.rename(nameInput.value);
    name = keepName(me.name);
    nameInput.value = name;
    chat.note("You are now ", nameTag(name));
  } catch (error) {
    problem("name-problem", error);
  }
});

const text = element<HTMLInputElement>("text");
element("chat-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const saying = text.value;
  if (!saying.trim()) return;
  text.value = "";
  problem("chat-problem");
  if (client.status.status !== "connected") hint("chat-problem", "Sent as soon as the line is back.");
  try {
    await room.say(saying);
    problem("chat-problem");
  } catch (error) {
    problem("chat-problem", error);
    // What was written since is worth more than what can be written again.
    if (!text.value) text.value = saying;
  }
});

function problem(id: string, error?: unknown): void {
  const place = element(id);
  place.classList.remove("hint");
  place.textContent = error === undefined ? "" : remedyOf(error);
}

function hint(id: string, text: string): void {
  problem(id, text);
  element(id).classList.add("hint");
}

function showMembers(members: readonly Member[], you: number): void {
  element("count").textContent = String(members.length);
  element("members").replaceChildren(...members.map(({ id, name }) => {
    const entry = make("li", id === you ? "own" : "", nameTag(name));
    if (id === you) entry.append(make("span", "quiet", " you"));
    return entry;
  }));
}

/** Counts in the window's title what was said while nobody looked. */
const unread = {
  title: document.title,
  count: 0,
  add(): void {
    if (document.visibilityState === "visible") return;
    this.count += 1;
    document.title = `(${this.count}) ${this.title}`;
  },
  clear(): void {
    this.count = 0;
    document.title = this.title;
  },
};
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") unread.clear(); });
