import { element, make, nameTag } from "./dom";
import { connectAsGuest, nameForm, showMembers } from "./guest";
import { wordsOf, type LinkState } from "./peer-link";
import { CAN_CONNECT, Peers, type Peer } from "./peers";

const client = connectAsGuest();
nameForm(client);

if (!CAN_CONNECT) {
  element("peers-problem").textContent = "This browser has no WebRTC, or it is switched off. Open the page in another browser, "
    + "or ask who looks after this one. Everything else here works without.";
}

/** A row of the list stays the same element, so that who is at its button stays there. */
interface Row {
  entry: HTMLElement;
  name: HTMLElement;
  state: HTMLElement;
  note: HTMLElement;
  connect: HTMLButtonElement;
  ping: HTMLButtonElement;
  peer: Peer;
  /** What was announced last. */
  at: LinkState["at"] | undefined;
}
const rows = new Map<string, Row>();

const peers = new Peers(client, "peers:lobby", show);
// A page that may come back comes back without lines.
addEventListener("pagehide", () => peers.close());

function show(): void {
  showMembers(peers.members);
  const all = peers.all;
  element("alone").hidden = all.length > 0;
  const present = new Set(all.map(({ id }) => id));
  for (const [id, { entry }] of rows) {
    if (present.has(id)) continue;
    entry.remove();
    rows.delete(id);
  }
  for (const peer of all) showRow(peer);
}

function showRow(peer: Peer): void {
  const row = rows.get(peer.id) ?? newRow(peer);
  row.peer = peer;
  const state = peer.link?.state;
  row.state.textContent = wordsOf(state);
  if (row.at !== state?.at) element("announcement").textContent = `${peer.subject}: ${wordsOf(state)}`;
  row.at = state?.at;
  if (row.name.textContent !== peer.subject) {
    row.name.replaceChildren(nameTag(peer.subject));
    row.ping.ariaLabel = `Ping ${peer.subject}`;
  }
  row.note.textContent = noteOf(peer);
  const isUp = state?.at === "connecting" || state?.at === "open";
  row.connect.textContent = isUp ? "Hang up" : "Connect";
  row.connect.ariaLabel = isUp ? `Hang up on ${peer.subject}` : `Connect to ${peer.subject}`;
  const canConnect = CAN_CONNECT && peer.member?.data?.canConnect === true && !peer.member.away;
  row.connect.ariaDisabled = isUp || canConnect ? null : "true";
  row.ping.hidden = state?.at !== "open";
}

function noteOf({ member }: Peer): string {
  if (!member) return "the server does not know this page now";
  if (member.away) return "away";
  return member.data?.canConnect === true ? "" : "has no WebRTC";
}

function newRow(peer: Peer): Row {
  const button = (words: string): HTMLButtonElement => {
    const made = make("button", "small", words);
    made.type = "button";
    return made;
  };
  const [name, note, state] = [make("span"), make("span", "quiet"), make("span", "state")];
  const [connect, ping] = [button("Connect"), button("Ping")];
  const entry = make("li", "", name, note, state, ping, connect);
  const row: Row = { entry, name, state, note, connect, ping, peer, at: undefined };
  ping.addEventListener("click", () => row.peer.link?.ping());
  connect.addEventListener("click", () => {
    if (connect.ariaDisabled === "true") return;
    const { link, member } = row.peer;
    if (link?.state.at === "connecting" || link?.state.at === "open") link.close();
    else if (member) peers.connect(member);
  });
  rows.set(peer.id, row);
  element("peers").append(entry);
  return row;
}
