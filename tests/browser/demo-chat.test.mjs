// The demo's chat as people meet it: what was said is there, whoever was away or started again meanwhile.
import assert from "node:assert/strict";

import { claim, NETWORK } from "./support/claim.mjs";
import { connected, cut, demo, member, mend, visit } from "./support/demo.mjs";

const chat = (stage, http, name) => visit(stage, http, "chat.html", name);

async function say(page, text) {
  await page.getByLabel("Your message").fill(text);
  await page.getByLabel("Your message").press("Enter");
}

const heard = (page, text) => page.locator(".message", { hasText: text });
const texts = (page) => page.locator(".message .text").allTextContents();

claim("a_chat_of_the_demo_has_its_history_and_tells_who_is_here_and_who_said_what", async (stage) => {
  const { http } = await demo(stage);
  const ann = await chat(stage, http, "Ann");
  await say(ann, "hello?");
  await heard(ann, "hello?").and(ann.locator(".own")).waitFor();
  const ben = await chat(stage, http, "Ben");
  await heard(ben, "hello?").getByText("Ann").waitFor();
  await member(ann, "Ben").waitFor();
  await member(ben, "Ann").waitFor();
  assert.equal(await ben.locator("#count").textContent(), "2");

  await say(ben, "<img src=x onerror=alert(1)> & <b>bold</b>");
  await heard(ann, "<img src=x onerror=alert(1)> & <b>bold</b>").getByText("Ben").waitFor();
  assert.equal(await ann.locator(".message :is(img, b)").count(), 0, "what somebody says is a text");

  await ben.getByLabel("Your name").fill("Benedict");
  await ben.getByLabel("Your name").press("Enter");
  await member(ann, "Benedict").waitFor();
  await say(ben, "me again");
  await heard(ann, "me again").getByText("Benedict").waitFor();
  await ben.getByLabel("Your name").fill("anonymous");
  await ben.getByRole("button", { name: "Be that" }).click();
  await ben.getByText("This name stands for everybody who has none").waitFor();

  await ben.close();
  await member(ann, "Benedict").waitFor({ state: "detached" });
  assert.equal(await ann.locator("#count").textContent(), "1");
});

claim("a_chat_of_the_demo_outlives_its_server_and_so_do_those_who_are_in_it", async (stage) => {
  const server = await demo(stage);
  const [ann, ben] = [await chat(stage, server.http, "Ann"), await chat(stage, server.http, "Ben")];
  await say(ann, "before");
  await heard(ben, "before").waitFor();
  await server.kill();
  await ann.locator("#trouble").getByText(/server/i).waitFor();
  await say(ann, "said without a server");
  await ann.getByRole("listitem").filter({ hasText: "said without a server" }).getByText("waits").waitFor();
  await server.start();
  await heard(ben, "said without a server").waitFor();
  for (const page of [ann, ben]) await connected(page);
  await member(ben, "Ann").waitFor();
  assert.equal(await ann.locator("#waiting li").count(), 0);
  const later = await chat(stage, server.http, "Eve");
  await heard(later, "said without a server").waitFor();
  for (const page of [ann, ben, later]) assert.deepEqual(await texts(page), ["before", "said without a server"]);
}, { tolerated: NETWORK });

claim("who_is_away_from_a_chat_of_the_demo_is_seen_to_be_and_hears_what_was_missed_once", async (stage) => {
  const { http } = await demo(stage);
  const [ann, ben] = [await chat(stage, http, "Ann"), await chat(stage, http, "Ben")];
  await member(ben, "Ann").waitFor();
  await say(ben, "one");
  await heard(ann, "one").waitFor();
  await cut(ann);
  await member(ben, "Ann").getByText(/away since/).waitFor();
  assert.equal(await ben.locator("#count").textContent(), "1");
  await say(ben, "two");
  await say(ann, "three, when I am back");
  await ann.locator("#waiting").getByText("three").waitFor();
  await heard(ben, "two").waitFor();
  assert.equal(await heard(ann, "two").count(), 0);
  await mend(ann);
  await ann.getByText("While you were away").waitFor();
  for (const page of [ann, ben]) {
    await heard(page, "three").waitFor();
    assert.deepEqual((await texts(page)).sort(), ["one", "three, when I am back", "two"]);
  }
  await member(ben, "Ann").getByText(/away/).waitFor({ state: "detached" });
  await ann.locator("#waiting li").waitFor({ state: "detached" });
});

claim("a_chat_of_the_demo_shows_older_messages_when_it_is_asked_to", async (stage) => {
  const { http } = await demo(stage);
  const ann = await chat(stage, http, "Ann");
  await ann.evaluate(() => {
    const [form, text] = [document.querySelector("#chat-form"), document.querySelector("#text")];
    for (let n = 1; n <= 120; n++) {
      text.value = `number ${n}`;
      form.requestSubmit();
    }
  });
  await heard(ann, "number 120").waitFor();
  const ben = await chat(stage, http, "Ben");
  await heard(ben, "number 120").waitFor();
  const first = async () => (await texts(ben))[0];
  assert.equal(await first(), "number 71");
  const older = ben.getByRole("button", { name: "Older messages" });
  await older.click();
  await heard(ben, "number 21").waitFor();
  assert.equal(await first(), "number 21");
  await older.click();
  await older.waitFor({ state: "hidden" });
  assert.deepEqual(await texts(ben), Array.from({ length: 120 }, (_, at) => `number ${at + 1}`));
});

claim("what_the_server_does_not_take_stays_below_the_chat_of_the_demo_until_somebody_says_what_becomes_of_it", async (stage) => {
  const { http } = await demo(stage);
  const ann = await chat(stage, http, "Ann");
  await ann.evaluate(() => {
    document.querySelector("#text").value = "x".repeat(501);
    document.querySelector("#chat-form").requestSubmit();
  });
  const left = ann.locator("#waiting li");
  await left.getByText(/longer than 500/).waitFor();
  await left.getByRole("button", { name: "Try again" }).press("Enter");
  await left.getByText(/longer than 500/).waitFor();
  await left.getByRole("button", { name: "Forget it" }).click();
  await left.waitFor({ state: "detached" });
  await ann.locator("#text:focus").waitFor();
  await say(ann, "shorter");
  await heard(ann, "shorter").waitFor();
});
