// The demo's text: several write it at once, with a line and without, and it becomes the same for everybody.
import assert from "node:assert/strict";

import { join } from "node:path";

import { build } from "esbuild";

import { claim, NETWORK } from "./support/claim.mjs";
import { mulberry32 } from "./support/cutter.mjs";
import { connected, cut, demo, member, mend, visit } from "./support/demo.mjs";
import { repository } from "./support/environment.mjs";

async function open(stage, http, name) {
  const page = await visit(stage, http, "text.html", name);
  await isOpen(page);
  return page;
}

const area = (page) => page.getByRole("textbox", { name: "A text of everybody’s" });
const isOpen = (page) => page.locator("#text:not([readonly])").waitFor();
const shows = (page, text) =>
  page.waitForFunction((text) => document.querySelector("#text").value === text, text);
const saved = (page) => page.locator("#saved").getByText("Saved on the server").waitFor();

/** Puts the cursor behind these words, or marks them. */
function select(page, words, { marked = false } = {}) {
  return area(page).evaluate((area, { words, marked }) => {
    const at = area.value.indexOf(words);
    area.focus();
    area.setSelectionRange(marked ? at : at + words.length, at + words.length);
  }, { words, marked });
}

const selected = (page) => area(page).evaluate((area) => [area.selectionStart, area.selectionEnd]);

/** Writes behind these words, as a person does. */
async function write(page, behind, text) {
  await select(page, behind);
  await page.keyboard.type(text);
}

/** The page's own module for this. */
async function splices() {
  const entryPoints = [join(repository, "www/src/splice.ts")];
  const { outputFiles } = await build({ entryPoints, format: "esm", write: false, logLevel: "error" });
  return import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`);
}

claim("a_text_of_the_demo_is_the_same_for_everybody_and_cursors_stay_among_their_words", async (stage) => {
  const { http } = await demo(stage);
  const [ann, ben] = [await open(stage, http, "Ann"), await open(stage, http, "Ben")];
  await member(ann, "Ben").waitFor();
  await write(ann, "", "The quick fox");
  await shows(ben, "The quick fox");
  await select(ben, "fox", { marked: true });
  await write(ann, "quick", " brown 🦊🦉");
  await shows(ben, "The quick brown 🦊🦉 fox");
  const at = "The quick brown 🦊🦉 ".length;
  assert.deepEqual(await selected(ben), [at, at + 3]);
  await select(ann, "🦊");
  await ann.keyboard.press("Backspace");
  await ann.keyboard.type("🦝");
  await shows(ben, "The quick brown 🦝🦉 fox");
  await ben.keyboard.type("bear");
  await shows(ann, "The quick brown 🦝🦉 bear");
  assert.deepEqual(await selected(ann), ["The quick brown 🦝".length, "The quick brown 🦝".length]);

  // One of the same letters, at the cursor: the other's cursor tells which.
  await write(ben, "bear", "\naaaa");
  await shows(ann, "The quick brown 🦝🦉 bear\naaaa");
  await select(ann, "\naaaa");
  await select(ben, "\naa");
  await ben.keyboard.type("a");
  await shows(ann, "The quick brown 🦝🦉 bear\naaaaa");
  assert.deepEqual(await selected(ann), Array(2).fill("The quick brown 🦝🦉 bear\naaaaa".length));

  await ben.keyboard.press("Control+z");
  await shows(ann, "The quick brown 🦝🦉 fox");
  await ben.keyboard.press("Control+Shift+z");
  await shows(ann, "The quick brown 🦝🦉 bear\naaaaa");
  await saved(ben);
});

claim("what_is_written_without_a_line_on_both_sides_of_a_text_of_the_demo_becomes_one", async (stage) => {
  const { http } = await demo(stage);
  const [ann, ben] = [await open(stage, http, "Ann"), await open(stage, http, "Ben")];
  await write(ann, "", "one two three");
  await shows(ben, "one two three");
  await Promise.all([cut(ann), cut(ben)]);
  await write(ann, "one", " (ann)");
  await write(ben, "three", " (ben)");
  await ann.locator("#saved").getByText("6 changes kept in this browser until the line is back").waitFor();
  await mend(ann);
  await saved(ann);
  await shows(ann, "one (ann) two three");
  await mend(ben);
  for (const page of [ann, ben]) {
    await shows(page, "one (ann) two three (ben)");
    await saved(page);
  }
});

claim("what_was_written_into_a_text_of_the_demo_outlives_a_reload_and_the_server_and_is_there_once", async (stage) => {
  const server = await demo(stage);
  const [ann, ben] = [await open(stage, server.http, "Ann"), await open(stage, server.http, "Ben")];
  await write(ann, "", "base");
  await shows(ben, "base");
  await cut(ann);
  await write(ann, "base", ", written by Ann without a line");
  await ann.locator("#saved").getByText("31 changes kept in this browser").waitFor();
  await write(ben, "", "Ben's ");
  await saved(ben);
  // The server has confirmed some, and others are on their way, when the page goes.
  await ann.evaluate(() => {
    const saved = document.querySelector("#saved");
    new MutationObserver(() => {
      const left = Number(saved.textContent.match(/^Saving (\d+)/)?.[1] ?? 31);
      if (left < 31) location.reload();
    }).observe(saved, { childList: true });
    globalThis.isOld = true;
  });
  await ann.getByRole("button", { name: "Cut the line" }).click();
  await ann.waitForFunction(() => !globalThis.isOld);
  const whole = "Ben's base, written by Ann without a line";
  for (const page of [ann, ben]) {
    await isOpen(page);
    await shows(page, whole);
    await saved(page);
  }

  await server.kill();
  await ann.locator("#pill[data-status=connecting]").waitFor();
  await write(ann, "line", ", or a server");
  await server.start();
  for (const page of [ann, ben]) {
    await shows(page, `${whole}, or a server`);
    await connected(page);
    await saved(page);
  }
  await ann.close();
  await ben.close();
  const eve = await open(stage, server.http, "Eve");
  await shows(eve, `${whole}, or a server`);
  assert.equal(await eve.locator("#members li").count(), 1, "nobody else is here");
}, { tolerated: NETWORK });

claim("what_a_closed_window_of_the_demo_left_unsent_the_next_one_sends", async (stage) => {
  const { http } = await demo(stage);
  const [ann, ben] = [await open(stage, http, "Ann"), await open(stage, http, "Ben")];
  await cut(ann);
  await write(ann, "", "left behind");
  await ann.locator("#saved").getByText("11 changes kept in this browser").waitFor();
  const next = await ann.context().newPage();
  await ann.close();
  await next.goto(`${http}/text.html`);
  await shows(ben, "left behind");
  await shows(next, "left behind");
  await saved(next);
});

claim("a_word_that_is_being_composed_in_a_text_of_the_demo_and_what_others_write_wait_for_each_other", async (stage) => {
  const { http } = await demo(stage);
  const [ann, ben] = [await open(stage, http, "Ann"), await open(stage, http, "Ben")];
  await write(ann, "", "sea  harbour");
  await shows(ben, "sea  harbour");
  await select(ann, "sea ");
  const method = await ann.context().newCDPSession(ann);
  await method.send("Input.imeSetComposition", { text: "にほ", selectionStart: 2, selectionEnd: 2 });
  await shows(ann, "sea にほ harbour");
  await write(ben, "", "by the ");
  await write(ben, "harbour", "!");
  await saved(ben);
  await method.send("Input.imeSetComposition", { text: "日本", selectionStart: 2, selectionEnd: 2 });
  await shows(ann, "sea 日本 harbour");
  await shows(ben, "by the sea  harbour!");
  await method.send("Input.insertText", { text: "日本" });
  for (const page of [ann, ben]) await shows(page, "by the sea 日本 harbour!");
  assert.deepEqual(await selected(ann), Array(2).fill("by the sea 日本".length));
});

claim("any_change_of_a_text_of_the_demo_is_found_as_one_small_splice", async () => {
  const { spliceBetween, moved } = await splices();
  const random = mulberry32(7);
  const pick = (values) => values[Math.floor(random() * values.length)];
  const some = (most) => Array.from({ length: Math.floor(random() * most) }, () => pick(["a", "b", "\n", "🦊", "🦉", "é"]));
  for (let round = 0; round < 20_000; round++) {
    const before = some(12);
    const at = Math.floor(random() * (before.length + 1));
    const gone = Math.floor(random() * (before.length - at + 1));
    const come = some(4);
    const after = before.toSpliced(at, gone, ...come);
    const [was, is] = [before.join(""), after.join("")];
    // Behind what was typed, where it usually is, or anywhere.
    const cursor = round % 2 ? after.slice(0, at + come.length).join("").length : Math.floor(random() * (is.length + 1));
    const splice = spliceBetween(was, is, cursor);
    if (was === is) {
      assert.equal(splice, undefined);
      continue;
    }
    const { index, removed, inserted } = splice;
    const about = JSON.stringify({ was, is, cursor, splice });
    assert.equal(was.slice(0, index) + inserted + was.slice(index + removed), is, about);
    assert(removed <= before.slice(at, at + gone).join("").length && inserted.length <= come.join("").length, about);
    for (const part of [was.slice(0, index), was.slice(index, index + removed), inserted]) assert(part.isWellFormed(), about);
    // What stands before and behind it stays between the same words for somebody else.
    const delta = [{ retain: index }, { delete: removed }, { insert: inserted }];
    assert.equal(moved(index, delta), index, about);
    assert.equal(moved(was.length, delta), removed < was.length - index || inserted === "" ? is.length : index, about);
  }
});
