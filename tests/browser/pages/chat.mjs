// The smallest chat: what a newcomer writes after reading the README.
import { connect } from "moorline";

const client = connect();
const form = document.querySelector("form");
const list = document.querySelector("ol");

client.on("status", ({ status }) => (form.elements[1].disabled = status !== "connected"));
client.listen("said", ({ from, text }) => {
  list.append(Object.assign(document.createElement("li"), { textContent: `${from}: ${text}` }));
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const from = new URLSearchParams(location.search).get("name");
  void client.call("say", { from, text: form.elements[0].value });
  form.reset();
});
