import { element } from "./dom";
import { connectAsGuest, nameForm, showMembers } from "./guest";
import { TopicChat } from "./topic-chat";

const client = connectAsGuest();
const chat = new TopicChat(client, "chat:lobby");
nameForm(client);
chat.members.subscribe((members) => showMembers(members));

const text = element<HTMLInputElement>("text");
element("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!text.value.trim()) return;
  void chat.say(text.value);
  text.value = "";
});
