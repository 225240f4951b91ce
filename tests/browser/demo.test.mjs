// The demo as people meet it: who they are in its room, what they may, and what they are told when they may not.
import assert from "node:assert/strict";
import { claim } from "./support/claim.mjs";
import { demo } from "./support/demo.mjs";

/** A window of the demo, in which somebody has come in. */
async function visit(stage, http) {
  const page = await stage.page(http);
  await page.getByText("You are in, as").waitFor();
  return page;
}

/** Fills in the form. */
async function become(page, name, role, password) {
  await page.getByRole("radio", { name: role }).check();
  await page.getByLabel("Name", { exact: true }).fill(name);
  if (password !== undefined) await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: /^Be an? / }).click();
}

async function say(page, text) {
  await page.getByPlaceholder("Say something").fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

/** The value beside this word in the panel "The connection". */
const fact = (page, name) => page.locator("#facts > div", { hasText: name }).locator("dd");

claim("a_visitor_of_the_demo_views_and_becomes_a_speaker_on_the_same_connection", async (stage) => {
  const { http } = await demo(stage);
  const [ann, ben] = [await visit(stage, http), await visit(stage, http)];
  assert.match(await fact(ann, "You are").textContent(), /, viewer$/);
  assert.equal(await fact(ann, "Scopes").textContent(), "call:*");
  await say(ann, "may I?");
  await ann.getByText("The identity may not do this. Sign in as somebody who may").waitFor();
  assert.equal(await ann.getByPlaceholder("Say something").inputValue(), "may I?", "what was written is not lost");

  await become(ann, "Ann", "Speaker", "wrong");
  await ann.getByText("That is not the password of the role speaker.").waitFor();
  assert.match(await fact(ann, "You are").textContent(), /, viewer$/, "she stays who she was");
  await ann.locator("#password[aria-invalid=true]:focus").waitFor();

  await become(ann, "Ann", "Speaker", "ahoy");
  await ann.getByText("You are now Ann, a speaker").waitFor();
  assert.deepEqual(await fact(ann, "Scopes").locator("code").allTextContents(), ["call:*", "room.speak"]);
  await ben.locator("#members").getByText("Ann").waitFor();
  await say(ann, "now I may");
  await ben.locator(".message", { hasText: "now I may" }).getByText("Ann").waitFor();
  assert.equal(ann.sockets.length, 1);
});

claim("whoever_became_somebody_in_the_demo_is_it_after_a_cut_too", async (stage) => {
  const { http } = await demo(stage);
  const page = await visit(stage, http);
  await become(page, "Ann", "Speaker", "ahoy");
  await page.getByText("You are now Ann, a speaker").waitFor();
  await page.getByRole("button", { name: "Cut the socket" }).click();
  await page.locator("#history").getByText(/Back after .*, nothing is lost/).waitFor();
  await say(page, "still here");
  await page.locator(".message.own", { hasText: "still here" }).waitFor();
  assert.equal(await fact(page, "You are").textContent(), "Ann, speaker");
});

claim("an_admin_of_the_demo_clears_the_room_and_ends_a_session_and_others_are_refused", async (stage) => {
  const { http } = await demo(stage);
  const [ann, ben] = [await visit(stage, http), await visit(stage, http)];
  await become(ben, "Ben", "Speaker", "ahoy");
  await say(ben, "something rude");
  await ann.locator(".message", { hasText: "something rude" }).waitFor();
  await ben.getByRole("button", { name: "Clear the room" }).click();
  await ben.getByText("The identity may not do this.").waitFor();
  assert.equal(await ben.getByRole("button", { name: /Close the session/ }).count(), 0);

  await become(ann, "Ann", "Admin", "anchor");
  await ann.getByText("You are now Ann, an admin").waitFor();
  await ann.getByRole("button", { name: "Clear the room" }).click();
  await ben.getByText("Ann cleared the room").waitFor();
  assert.equal(await ben.locator(".message").count(), 0);
  await ann.getByRole("button", { name: "Close the session of Ben" }).click();
  await ben.getByRole("alert").getByText("Ann closed your session").waitFor();
  await ann.locator("#log").getByText("Ben left").waitFor();
  // Both waited for a line that never came back, and said that they did.
  await say(ben, "what now?");
  await ben.locator("#chat-problem").getByText("Ann closed your session").waitFor();
  assert.equal(await ben.getByPlaceholder("Say something").inputValue(), "what now?");
  await become(ben, "Ben", "Speaker", "ahoy");
  await ben.locator("#sign-in-problem").getByText("Ann closed your session").waitFor();
  // Nothing keeps him from coming back, as a viewer.
  await ben.getByRole("button", { name: "Come back" }).click();
  await ben.getByText("You are in, as Ben, a viewer").waitFor();
});

claim("every_page_of_the_demo_has_its_policy_and_leads_to_the_others", async (stage) => {
  const { http } = await demo(stage);
  const page = await stage.page(http);
  for (const name of ["Chat", "Text", "Page to page", "The room"]) {
    await page.getByRole("navigation").getByRole("link", { name }).click();
    await page.getByRole("link", { name }).and(page.locator("[aria-current=page]")).waitFor();
    await page.locator("#pill[data-status=connected]").waitFor();
    const policy = await page.locator("meta[http-equiv=Content-Security-Policy]").getAttribute("content");
    assert.match(policy, /default-src 'none'.*script-src 'self' 'wasm-unsafe-eval'.*style-src 'self'.*connect-src 'self'/);
  }
});
