// The demo's lines from page to page: agreed on by direct messages, and then on their own.
import assert from "node:assert/strict";

import { claim, NETWORK } from "./support/claim.mjs";
import { connected, cut, demo, mend, visit } from "./support/demo.mjs";

// A page that may use the microphone is shown the addresses of this machine, those of a machine without a network too.
const permissions = ["microphone"];
const peers = (stage, http, name, init) => visit(stage, http, "peers.html", name, { init, permissions });

const row = (page, name) => page.locator("#peers li", { hasText: name });
const connect = (page, name) => page.getByRole("button", { name: `Connect to ${name}` });
const state = (page, name) => row(page, name).locator(".state");

/** Waits until so many pings of this page to that one were answered, and gives what stands there. */
async function answered(page, name, count) {
  await page.waitForFunction(([name, count]) => {
    const row = [...document.querySelectorAll("#peers li")].find((row) => row.textContent.includes(name));
    return Number(row?.querySelector(".state").textContent.match(/(\d+) pings? answered/)?.[1] ?? 0) >= count;
  }, [name, count]);
  return state(page, name).textContent();
}

claim("two_pages_of_the_demo_connect_to_each_other_and_answer_pings", async (stage) => {
  const { http } = await demo(stage);
  const [ann, ben] = [await peers(stage, http, "Ann"), await peers(stage, http, "Ben")];
  await connect(ann, "Ben").press("Enter");
  assert.match(await answered(ann, "Ben", 1), /^Connected: there and back in [\d.]+ m?s, /);
  assert.match(await answered(ben, "Ann", 1), /^Connected: there and back in [\d.]+ m?s, /);
  const before = Number((await answered(ann, "Ben", 1)).match(/(\d+) ping/)[1]);
  await ann.getByRole("button", { name: "Ping Ben" }).click();
  await answered(ann, "Ben", before + 1);

  await ben.getByRole("button", { name: "Hang up on Ann" }).click();
  await state(ann, "Ben").getByText("The other page has closed it").waitFor();
  await connect(ben, "Ann").click();
  await answered(ann, "Ben", 1);
  await ben.close();
  await row(ann, "Ben").waitFor({ state: "detached" });
  await ann.getByText("Nobody else is here").waitFor();
});

claim("pages_of_the_demo_that_call_each_other_at_the_same_time_get_one_line", async (stage) => {
  const { http } = await demo(stage);
  const [ann, ben] = [await peers(stage, http, "Ann"), await peers(stage, http, "Ben")];
  for (let round = 1; round <= 5; round++) {
    await Promise.all([connect(ann, "Ben").waitFor(), connect(ben, "Ann").waitFor()]);
    // Neither hears of the other's before it has made its own.
    await Promise.all([cut(ann), cut(ben)]);
    await Promise.all([connect(ann, "Ben"), connect(ben, "Ann")].map((button) => button.evaluate((element) => {
      element.ariaDisabled = null;
      element.click();
    })));
    await Promise.all([mend(ann), mend(ben)]);
    await Promise.all([answered(ann, "Ben", 1), answered(ben, "Ann", 1)]);
    await (round % 2 ? ann : ben).getByRole("button", { name: /^Hang up on/ }).click();
  }
});

claim("a_line_between_pages_of_the_demo_needs_no_server_and_is_theirs_when_it_is_back", async (stage) => {
  const server = await demo(stage);
  const [ann, ben] = [await peers(stage, server.http, "Ann"), await peers(stage, server.http, "Ben")];
  await connect(ann, "Ben").click();
  await answered(ann, "Ben", 1);
  await server.kill();
  await ann.locator("#pill[data-status=connecting]").waitFor();
  const before = Number((await answered(ann, "Ben", 1)).match(/(\d+) ping/)[1]);
  await ann.getByRole("button", { name: "Ping Ben" }).click();
  await answered(ann, "Ben", before + 1);
  await server.start();
  for (const page of [ann, ben]) await connected(page);
  // Both are other members now, and still have their line: what the server says of Ben stands beside it.
  await ben.getByLabel("Your name").fill("Benedict");
  await ben.getByRole("button", { name: "Be that" }).click();
  await row(ann, "Benedict").waitFor();
  await answered(ann, "Benedict", before + 2);
  await ann.getByText("the server does not know this page now").waitFor({ state: "detached" });
  assert.equal(await ann.locator("#peers li").count(), 1);
}, { tolerated: NETWORK });

claim("a_page_of_the_demo_without_webrtc_says_so_and_others_know", async (stage) => {
  const { http } = await demo(stage);
  const ann = await peers(stage, http, "Ann", "delete globalThis.RTCPeerConnection;");
  const ben = await peers(stage, http, "Ben");
  await ann.getByRole("alert").getByText("This browser has no WebRTC").waitFor();
  await row(ben, "Ann").getByText("has no WebRTC").waitFor();
  for (const [page, name] of [[ann, "Ben"], [ben, "Ann"]]) {
    assert.equal(await connect(page, name).getAttribute("aria-disabled"), "true");
  }
});
