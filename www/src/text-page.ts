import { bindYjs } from "moorline/yjs";
import * as Y from "yjs";
import type { StoreState } from "moorline";

import { element } from "./dom";
import { connectAsGuest, showMembers } from "./guest";
import { writersName } from "./names";
import { SharedTextarea } from "./shared-textarea";
import { remedyOf } from "./trouble";

const client = connectAsGuest(writersName());
const store = client.store("text:harbour", { offline: true, presence: {} });
const doc = new Y.Doc();
const binding = bindYjs(doc, store, { onError: (error) => problem(remedyOf(error)) });

const area = element<HTMLTextAreaElement>("text");
new SharedTextarea(area, doc.getText("body"));

store.members.subscribe((members) => showMembers(members));
store.subscribe((state) => showState(state));
store.on("refused", () => showRefused());

// Before everything is there, an empty text would look as if there were none.
binding.synced.then(() => {
  area.readOnly = false;
  area.ariaBusy = null;
  area.placeholder = "Write something";
}, (error) => problem(remedyOf(error)));

element("refused-retry").addEventListener("click", () => {
  for (const refused of store.refused) refused.retry();
  showRefused();
  area.focus();
});
element("refused-discard").addEventListener("click", () => {
  for (const refused of store.refused) refused.discard();
  // The text of this page has it still; the server's has not.
  location.reload();
});

function showState({ status, pending, offline, synced }: StoreState): void {
  const changes = pending === 1 ? "1 change" : `${pending} changes`;
  element("saved").textContent = status === "closed" ? "Closed"
    : pending > 0 && status === "open" ? `Saving ${changes}`
    : pending > 0 ? `${changes} kept in ${offline === "disk" ? "this browser" : "this page"} until the line is back`
    : status === "opening" ? (area.readOnly ? "Opening" : "No line: go on writing")
    : synced ? "Saved on the server" : "Opening";
}

/** What the server did not take is not lost: somebody has to say what becomes of it. */
function showRefused(): void {
  const [first] = store.refused;
  element("refused").hidden = first === undefined;
  problem(first === undefined ? "" : remedyOf(first.error));
}

function problem(text: string): void {
  element("text-problem").textContent = text;
}
