// Vite's development server, which moves packages away from their files, and bundlers that ship no files at all.
import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";

import { createServer } from "vite";

import { assertHelps, claim, NETWORK } from "./support/claim.mjs";
import { scratch } from "./support/environment.mjs";

/** A page from a development server, in a copy of the project, since Vite keeps its cache in `node_modules`. */
async function develop(stage, optimizeDeps) {
  const { root } = await stage.project();
  const folder = await mkdtemp(join(scratch, "vite-"));
  stage.onEnd(() => rm(folder, { recursive: true, force: true }));
  for (const name of ["index.html", "main.mjs", "node_modules", "package.json"]) {
    await cp(join(root, name), join(folder, name), { recursive: true });
  }
  const { http } = await stage.fixture();
  const server = await createServer({
    root: folder,
    configFile: false,
    logLevel: "silent",
    optimizeDeps,
    server: { host: "127.0.0.1", port: 0, proxy: { "/moorline": { target: http, ws: true } } },
  });
  stage.onEnd(() => server.close());
  await server.listen();
  const page = await stage.page(`http://127.0.0.1:${server.httpServer.address().port}/`);
  // The first visit may make Vite find the package, and load the page anew.
  await page.waitForFunction(() => "moorline" in globalThis);
  return page;
}

// Vite 8 writes the right address into what it moves. Vite 7 does not: its server answers with the index page, which
// wasm.test.mjs shows, and the package has to be excluded.
for (const [name, optimizeDeps] of Object.entries({ as_it_is: {}, with_the_package_excluded: { exclude: ["moorline"] } })) {
  claim(`vites_development_server_${name}_serves_the_wasm_and_proxies_the_socket`, async (stage) => {
    const page = await develop(stage, optimizeDeps);
    assert.equal(await page.evaluate(() => moorline.connect().call("double", 21)), 42);
  });
}

claim("a_bundle_of_esbuild_that_lacks_the_wasm_says_what_to_import_instead", async (stage) => {
  const { esbuild } = await stage.project();
  const site = await stage.site({ "/": esbuild });
  const page = await stage.page(`${site.http}/main.html`);
  const { error } = await page.evaluate(() => kit.outcome(moorline.connect("ws://localhost:1/moorline").ready()));
  assertHelps(error, "wasm_not_found");
  assert.match(error.remedy, /moorline\/inline/);
}, { tolerated: NETWORK });

claim("a_bundle_of_esbuild_with_the_wasm_copied_beside_it_works", async (stage) => {
  const { esbuild, installed } = await stage.project();
  const { url } = await stage.fixture();
  const site = await stage.site({ "/core.wasm": join(installed, "dist/core.wasm"), "/": esbuild });
  const page = await stage.page(`${site.http}/main.html`);
  assert.equal(await page.evaluate((url) => moorline.connect(url).call("double", 21), url), 42);
});
