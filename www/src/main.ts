import { connect } from "moorline";

import { Chat } from "./chat";
import { DiceTable } from "./dice";
import { element, make, nameTag } from "./dom";
import { Harbour } from "./harbour";
import { Line } from "./line";
import { keepName, ownName } from "./names";
import { Room, withArticle } from "./room";
import { SignInForm } from "./sign-in";
import { CuttableSocket } from "./socket";
import { remedyOf } from "./trouble";
import { Unread } from "./unread";
import type { Api, Member, SignIn } from "./api";

const name = ownName();
// Everybody begins as a viewer. What is shown later, by `client.authenticate`, later connections show by themselves.
const client = connect<Api>("/moorline", { webSocket: CuttableSocket, auth: { name, role: "viewer" } satisfies SignIn });

const chat = new Chat(element("log"));
const unread = new Unread();
const harbour = new Harbour(element("harbour"), (at) => client.notify("cursor", at, { volatile: true }));
const room = new Room(client, {
  entered(you, missed, isNewRoom) {
    chat.quietly(() => {
      if (isNewRoom) chat.clear();
      for (const { message, isOwn } of missed) chat.say(message, isOwn);
      chat.note(isNewRoom ? "You are in, as " : "You are back, as ", nameTag(you.name), `, ${withArticle(you.role)}`);
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
  cleared(by) {
    chat.clear();
    chat.note(nameTag(by), " cleared the room");
  },
  noted: (member, what) => chat.note(nameTag(member.name), ` ${what}`),
  moved: (id, at) => harbour.move(id, at),
});

new Line(client);
new DiceTable(() => room.roll());
client.listen("rolled", ({ name, dice }) => chat.roll(name, dice));
client.on("session", ({ resumed }) => room.enter(resumed).catch((error) => problem("chat-problem", error)));
client.on("error", (error) => problem("chat-problem", error));

const signIn = new SignInForm(name, async (shown) => {
  const me = await room.turn(shown);
  keepName(me.name);
  problem("chat-problem");
  chat.note("You are now ", nameTag(me.name), `, ${withArticle(me.role)}`);
  return me;
});
client.on("identity", ({ role }) => (document.body.dataset.role = role));
element("speak").addEventListener("click", () => signIn.choose("speaker"));
// For everybody to try: the server decides who may, and says so to who may not.
element("clear").addEventListener("click", () => tried(room.clear()));

const text = element<HTMLInputElement>("text");
element("chat-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const saying = text.value;
  if (!saying.trim()) return;
  text.value = "";
  problem("chat-problem");
  if (client.status.status === "connecting") hint("chat-problem", "Sent as soon as the line is back.");
  try {
    await room.say(saying);
    problem("chat-problem");
  } catch (error) {
    problem("chat-problem", error);
    // What was written since is worth more than what can be written again.
    if (!text.value) text.value = saying;
  }
});

/** Tells what becomes of it only if that is nothing. */
async function tried(what: Promise<void>): Promise<void> {
  problem("chat-problem");
  try {
    await what;
  } catch (error) {
    problem("chat-problem", error);
  }
}

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
  element("members").replaceChildren(...members.map((member) => {
    const isOwn = member.id === you;
    const entry = make("li", isOwn ? "own" : "", nameTag(member.name), make("span", "role", member.role));
    entry.append(isOwn ? make("span", "quiet", "you") : dismissButton(member));
    return entry;
  }));
}

/** Style shows it to admins alone. The server does not rely on that. */
function dismissButton({ id, name }: Member): HTMLElement {
  const button = make("button", "dismiss", "×");
  button.type = "button";
  button.title = button.ariaLabel = `Close the session of ${name}`;
  button.addEventListener("click", () => tried(room.dismiss(id)));
  return button;
}
