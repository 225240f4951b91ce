// What somebody on the way sees: a proxy between page and server keeps every byte that passes.
import assert from "node:assert/strict";

import { claim } from "./support/claim.mjs";

const UP = "canary-up-4f1d9c07";
const DOWN = "canary-down-b82e6a53";
// Names are no more for other eyes than what is said.
const NAME = "canary.name.77aa01";

/** A page says canaries to the server, in calls, notifications and answers, and hears others from it. */
async function exchange(stage, options, fixtureOptions) {
  const { http, url, key } = await stage.fixture(fixtureOptions);
  const recorder = await stage.recorder(url);
  const page = await stage.page(http);
  const serverKey = options.encryption === "off" ? undefined : key;
  const { session, said } = await page.evaluate(async ([url, options, UP, DOWN, NAME]) => {
    const client = moorline.connect(url, options);
    client.handle(NAME, () => UP);
    const noted = kit.heard(client, "noted");
    client.notify("note", UP);
    const echoed = await client.call("echo", { UP });
    // It goes the other way round, so that these words only ever travel downward.
    const answer = await client.call("reverse", new TextEncoder().encode([...DOWN].reverse().join("")));
    const asked = await client.call("ask", { name: NAME, data: null });
    const said = [echoed.UP, asked.ok, ...(await noted), new TextDecoder().decode(answer)];
    return { session: client.session, said };
  }, [recorder.url, { ...options, serverKey }, UP, DOWN, NAME]);
  assert.deepEqual(said, [UP, UP, UP, DOWN], "it was really said");
  return { recorder, session };
}

/** Whether these words occur, as text or as bytes would be written in it. */
function occurs(recording, words) {
  const bytes = Buffer.from(words);
  return [bytes, bytes.toString("base64"), bytes.toString("hex")].some((form) => recording.includes(form));
}

for (const encryption of ["aes-256-gcm", "chacha20-poly1305"]) {
  claim(`under_${encryption.replaceAll("-", "_")}_nothing_that_was_said_can_be_read_on_the_way`, async (stage) => {
    const { recorder, session } = await exchange(stage, { encryption });
    assert.equal(session.encryption.suite, encryption);
    for (const recording of [recorder.upward, recorder.downward]) {
      assert(recording.length > 300, "something passed");
      for (const words of [UP, DOWN, "canary", "echo", "noted", NAME]) assert(!occurs(recording, words), words);
    }
  });
}

claim("without_encryption_everything_can_be_read_on_the_way", async (stage) => {
  const { recorder, session } = await exchange(stage, { encryption: "off" }, { encryption: "off" });
  assert.equal(session.encryption.suite, "off");
  for (const words of [UP, "echo", NAME]) assert(occurs(recorder.upward, words), words);
  for (const words of [UP, DOWN, "noted", NAME]) assert(occurs(recorder.downward, words), words);
  assert(!occurs(recorder.upward, DOWN));
});

claim("the_same_words_are_never_sealed_to_the_same_bytes", async (stage) => {
  const { http, url, key } = await stage.fixture();
  const recorder = await stage.recorder(url);
  const page = await stage.page(http);
  await page.evaluate(async ([url, serverKey]) => {
    const client = moorline.connect(url, { serverKey });
    for (let n = 0; n < 20; n++) await client.call("echo", "the same words, again and again");
  }, [recorder.url, key]);
  const seen = new Set();
  const recording = recorder.upward;
  for (let at = 0; at + 16 <= recording.length; at++) {
    const block = recording.toString("latin1", at, at + 16);
    assert(!seen.has(block), `16 bytes occur twice, at ${at}`);
    seen.add(block);
  }
});
