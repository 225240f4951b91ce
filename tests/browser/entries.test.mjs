// The packed package, from each of its entries, in real pages.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { claim } from "./support/claim.mjs";
import { page as html } from "./support/project.mjs";

const greet = (page, url) =>
  page.evaluate(async (url) => {
    const client = moorline.connect(url);
    const answer = await client.call("echo", "grüß Gott");
    const { encryption } = client.session;
    await client.close();
    return { answer, suite: encryption.suite };
  }, url);

const GREETED = { answer: "grüß Gott", suite: "aes-256-gcm" };

claim("two_pages_built_by_vite_chat_through_the_server_both_ways", async (stage) => {
  const { http } = await stage.fixture();
  const people = [];
  for (const name of ["ann", "bob"]) {
    const page = await stage.page(`${http}/chat.html?name=${name}`);
    await page.locator("button:enabled").waitFor();
    people.push(page);
  }
  const [ann, bob] = people;
  const say = async (page, text) => {
    await page.getByLabel("Message").fill(text);
    await page.getByRole("button").click();
    for (const each of people) await each.locator("li", { hasText: text }).waitFor();
  };
  await say(ann, "hello");
  await say(bob, "hello yourself");
  for (const page of people) {
    assert.deepEqual(await page.locator("li").allTextContents(), ["ann: hello", "bob: hello yourself"]);
  }
});

claim("what_vite_built_ships_the_wasm_under_a_name_that_caches_keep_for_good", async (stage) => {
  const { http } = await stage.fixture();
  const page = await stage.page(http);
  assert.deepEqual(await greet(page), GREETED);
  const [wasm, ...more] = page.requested.filter((url) => url.endsWith(".wasm"));
  assert.deepEqual(more, []);
  assert.match(wasm, /\/assets\/core-[\w-]{8}\.wasm$/);
  const answer = await fetch(wasm);
  assert.equal(answer.headers.get("content-type"), "application/wasm");
  assert.match(answer.headers.get("cache-control"), /immutable/);
});

claim("a_plain_module_script_imports_the_package_by_its_path", async (stage) => {
  const { installed } = await stage.project();
  const { url } = await stage.fixture();
  const script = '<script type="module">import * as moorline from "/moorline/dist/index.js"; globalThis.moorline = moorline;</script>';
  const site = await stage.site({ "/moorline/": installed, "/": html(script) });
  assert.deepEqual(await greet(await stage.page(site.http), url), GREETED);
});

claim("a_plain_module_script_imports_the_package_by_an_import_map", async (stage) => {
  const { installed } = await stage.project();
  const { url } = await stage.fixture();
  const map = JSON.stringify({ imports: { moorline: "/vendor/moorline/dist/index.js" } });
  const script = '<script type="module">import * as moorline from "moorline"; globalThis.moorline = moorline;</script>';
  const site = await stage.site({
    "/vendor/moorline/": installed,
    "/": html(`<script type="importmap">${map}</script>${script}`),
  });
  assert.deepEqual(await greet(await stage.page(site.http), url), GREETED);
});

claim("inline_bundled_by_esbuild_is_one_file_and_fetches_no_wasm", async (stage) => {
  const { esbuild } = await stage.project();
  const { url } = await stage.fixture();
  const site = await stage.site({ "/": esbuild });
  const page = await stage.page(`${site.http}/inline.html`);
  assert.deepEqual(await greet(page, url), GREETED);
  assert.deepEqual(site.requests, ["/inline.html", "/inline.js"]);
  assert.equal(page.requested.filter((url) => url.includes("wasm")).length, 0);
});

claim("slim_takes_the_wasm_as_url_bytes_module_or_response", async (stage) => {
  const { esbuild, installed } = await stage.project();
  const { url } = await stage.fixture();
  const site = await stage.site({ "/elsewhere/core.wasm": join(installed, "dist/core.wasm"), "/": esbuild });
  for (const kind of ["url", "bytes", "module", "response"]) {
    const page = await stage.page(`${site.http}/slim.html`);
    const answer = await page.evaluate(async ([kind, url]) => {
      const fetched = () => fetch("/elsewhere/core.wasm");
      const wasm = {
        url: () => "/elsewhere/core.wasm",
        bytes: () => fetched().then((response) => response.bytes?.() ?? response.arrayBuffer()),
        module: () => WebAssembly.compileStreaming(fetched()),
        response: fetched,
      };
      const client = moorline.connect(url, { wasm: wasm[kind]() });
      const answer = await client.call("double", 21);
      await client.close();
      return answer;
    }, [kind, url]);
    assert.equal(answer, 42, kind);
  }
});

claim("slim_without_wasm_says_what_it_needs", async (stage) => {
  const { esbuild } = await stage.project();
  const site = await stage.site({ "/": esbuild });
  const page = await stage.page(`${site.http}/slim.html`);
  const error = await page.evaluate(() => kit.thrown(() => moorline.connect("ws://localhost:1/moorline", {})));
  assert.equal(error.code, "invalid_option");
  assert.match(error.message, /wasm/);
  assert.match(error.remedy, /moorline\/inline/);
});

claim("every_entry_of_the_tarball_exports_the_same_names", async (stage) => {
  const { esbuild, vite } = await stage.project();
  const site = await stage.site({ "/esbuild/": esbuild, "/": vite });
  const names = [];
  for (const path of ["/", "/esbuild/inline.html", "/esbuild/slim.html"]) {
    const page = await stage.page(site.http + path);
    names.push(await page.evaluate(() => Object.keys(moorline).sort()));
  }
  assert.deepEqual(names[1], names[0]);
  assert.deepEqual(names[2], names[0]);
  assert(names[0].includes("connect") && names[0].includes("preload"));
});

claim("the_tarball_is_the_built_package_and_nothing_of_its_sources", async (stage) => {
  const { installed } = await stage.project();
  const { version, exports } = JSON.parse(await readFile(join(installed, "package.json"), "utf8"));
  assert.match(version, /^\d+\.\d+\.\d+$/);
  for (const entry of Object.values(exports)) {
    for (const file of typeof entry === "string" ? [entry] : Object.values(entry)) {
      assert((await readFile(join(installed, file))).length > 0, file);
    }
  }
  await assert.rejects(readFile(join(installed, "src/index.ts")), { code: "ENOENT" });
});
