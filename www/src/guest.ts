import { connect, MoorlineError, type Client, type Member } from "moorline";

import { element, make, nameTag } from "./dom";
import { keepName, ownName } from "./names";
import { CuttableSocket } from "./socket";
import { StatusLine } from "./status";
import { timeOfDay } from "./time";
import { remedyOf } from "./trouble";
import type { ChannelApi, SignIn } from "./api";

/** An answer that takes longer waits for the line. */
const SOON_MS = 700;

/** What the pages beside the room have in common: a guest's client, the status line and the switch that cuts the line. */
export function connectAsGuest(name = ownName()): Client<ChannelApi> {
  const auth: SignIn = { name, role: "guest" };
  const client = connect<ChannelApi>("/moorline", { webSocket: CuttableSocket, auth });
  new StatusLine(client);

  const line = element("line");
  line.addEventListener("click", () => {
    const isCut = line.ariaPressed === "true";
    line.ariaPressed = String(!isCut);
    if (isCut) CuttableSocket.mend();
    else CuttableSocket.cut(Infinity);
  });
  return client;
}

/** The form that changes one's name, on the open connection. */
export function nameForm(client: Client<ChannelApi>): void {
  const field = element<HTMLInputElement>("name");
  const problem = element("name-problem");
  const tell = (text: string, isHint = false): void => {
    problem.classList.toggle("hint", isHint);
    problem.textContent = text;
  };
  let isBusy = false;
  field.value = ownName();
  element("name-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    tell("");
    const waiting = setTimeout(() => tell("As soon as the line is back.", true), SOON_MS);
    try {
      const auth: SignIn = { name: field.value, role: "guest" };
      const { subject } = await client.authenticate({ auth, timeoutMs: Infinity });
      field.value = keepName(subject);
      tell(`You are ${subject}.`, true);
    } catch (error) {
      tell(remedyOf(error));
      if (MoorlineError.is(error) && error.code.startsWith("name_")) field.select();
    } finally {
      clearTimeout(waiting);
      isBusy = false;
    }
  });
}

/** Shows who is here, and who is away and since when. `more` is what else there is to say of one. */
export function showMembers(members: readonly Member[], more: (member: Member) => Node[] = () => []): void {
  element("count").textContent = String(members.filter(({ away }) => !away).length);
  const isHere = ({ away }: Member): number => (away ? 1 : 0);
  const sorted = [...members].sort((one, other) => isHere(one) - isHere(other));
  element("members").replaceChildren(...sorted.map((member) => {
    const entry = make("li", member.me ? "own" : "", nameTag(member.subject));
    if (member.me) entry.append(make("span", "quiet", "you"));
    if (member.away) {
      entry.classList.add("away");
      entry.append(make("span", "quiet", member.seenAt === undefined ? "away" : `away since ${timeOfDay(member.seenAt)}`));
    }
    entry.append(...more(member));
    return entry;
  }));
}
