/**
 * The package as its users get it: entries, bundles, sizes.
 *
 * With npm/generated (`cargo xtask wasm`, then `npm run build`) the real files are tested. Without it a copy of dist/
 * gets a fake glue and the smallest module there is, so that everything but the size of the wasm is tested all the same.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const isReal = existsSync(join(root, "dist/glue.js"));
const EMPTY = Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);

// Installed somewhere else, as users have it: `moorline` is found through node_modules and package.json's exports.
const project = mkdtempSync(join(tmpdir(), "moorline-package-"));
after(() => rmSync(project, { recursive: true, force: true }));
const installed = join(project, "node_modules/moorline");
cpSync(join(root, "dist"), join(installed, "dist"), { recursive: true });
cpSync(join(root, "package.json"), join(installed, "package.json"));
for (const peer of ["ws", "yjs", "lib0", "loro-crdt"]) symlinkSync(join(root, "node_modules", peer), join(project, "node_modules", peer));
if (!isReal) {
  cpSync(join(root, "tests/fake-core.mjs"), join(installed, "dist/fake-core.mjs"));
  const glue = 'export { FakeCore as Core } from "./fake-core.mjs"; export const initSync = ({ module }) => module;';
  writeFileSync(join(installed, "dist/glue.js"), glue);
  writeFileSync(join(installed, "dist/core.wasm"), EMPTY);
  writeFileSync(join(installed, "dist/embedded.js"), `export const gzippedBase64 = "${gzipSync(EMPTY).toString("base64")}";`);
}

/** The bundle of a page that uses `connect` of an entry. */
async function bundle(entry, options) {
  const { outputFiles } = await build({
    stdin: { contents: `import { connect } from "${entry}"; globalThis.connect = connect;`, resolveDir: project },
    bundle: true,
    write: false,
    format: "esm",
    platform: "browser",
    logLevel: "silent",
    ...options,
  });
  return outputFiles[0].text;
}

/** Runs a script in the project, in a Node of its own, and gives its default export. */
function run(name, source) {
  const file = join(project, name);
  writeFileSync(file, source);
  const print = `import(${JSON.stringify(file)}).then((m) => process.stdout.write(JSON.stringify(m.default)))`;
  return JSON.parse(execFileSync(process.execPath, ["--input-type=module", "--eval", print], { encoding: "utf8" }));
}

test("every entry has the same exports", () => {
  const names = run("entries.mjs", `
    const entries = await Promise.all(["moorline", "moorline/inline", "moorline/slim"].map((name) => import(name)));
    export default entries.map((entry) => Object.keys(entry).sort());
  `);
  const expected = ["AuthError", "CallError", "ChannelError", "ConnectError", "Fail", "MoorlineError", "connect", "preload"];
  assert.deepEqual(names, [expected, expected, expected]);
});

test("in Node every entry finds its wasm", () => {
  const loaded = run("preload.mjs", `
    import { readFile } from "node:fs/promises";
    import { fileURLToPath } from "node:url";
    import { preload } from "moorline";
    import { preload as inline } from "moorline/inline";
    import { preload as slim } from "moorline/slim";
    await preload();
    await inline();
    await slim({ wasm: readFile(fileURLToPath(import.meta.resolve("moorline/core.wasm"))) });
    export default true;
  `);
  assert.ok(loaded);
});

test("in Node a URL is needed, and moorline/slim needs its wasm", () => {
  const codes = run("refusals.mjs", `
    import { connect } from "moorline";
    import { connect as slim } from "moorline/slim";
    const code = (attempt) => { try { attempt(); } catch (error) { return [error.code, error.remedy]; } };
    export default [code(() => connect()), code(() => connect("/moorline")), code(() => slim("ws://localhost/")), code(() => connect("ws://localhost/", { url: 1 }))];
  `);
  assert.deepEqual(codes.map(([code]) => code), ["invalid_url", "invalid_url", "invalid_option", "invalid_option"]);
  assert.match(codes[0][1], /pass an absolute URL/);
  assert.match(codes[2][1], /moorline\/inline/);
});

test("preload gives up at its limit or its signal, and rejects unheard without noise", () => {
  const results = run("limits.mjs", `
    import { preload } from "moorline/slim";
    const never = new Promise(() => {});
    preload({ wasm: never, timeoutMs: 1 });
    const results = await Promise.allSettled([
      preload({ wasm: never, timeoutMs: 1 }),
      preload({ wasm: never, signal: AbortSignal.abort("no") }),
    ]);
    export default results.map(({ reason }) => reason.code ?? reason);
  `);
  assert.deepEqual(results, ["timeout", "no"]);
});

test("importing does nothing: unused, an entry leaves nothing in a bundle", async () => {
  for (const entry of ["moorline", "moorline/inline", "moorline/slim"]) {
    const text = await bundle(entry, { stdin: { contents: `import "${entry}";`, resolveDir: project } });
    assert.equal(text.replace(/\/\/.*|\(\(\) => {|}\)\(\);/g, "").trim(), "");
  }
});

test("only the entry that needs it looks beside its module", async () => {
  const beside = /new URL\([^)]*import\.meta\.url\)/;
  assert.match(await bundle("moorline"), /new URL\("\.\/core\.wasm", import\.meta\.url\)/, "bundlers look for exactly this");
  assert.doesNotMatch(await bundle("moorline/inline"), beside);
  assert.doesNotMatch(await bundle("moorline/slim"), beside);
});

test("a browser's bundle asks for no module of Node's", async () => {
  for (const entry of ["moorline", "moorline/inline", "moorline/slim"]) {
    assert.doesNotMatch(await bundle(entry), /from "(node:|ws)|import\("(node:|ws)/);
  }
});

// `import(name)` with a constant beside it is `import("ws")` to a bundler that folds constants, as that of Vite 8 does;
// its development server then failed over a package that no page has.
test("regression: what a browser loads imports nothing that is not written out beside it", async () => {
  for (const entry of ["moorline", "moorline/inline", "moorline/slim"]) {
    const { metafile } = await build({
      stdin: { contents: `export * from "${entry}";`, resolveDir: project },
      bundle: true, write: false, format: "esm", platform: "browser", metafile: true, logLevel: "silent",
    });
    const modules = Object.keys(metafile.inputs).filter((path) => path.endsWith(".js"));
    assert.ok(modules.some((path) => path.endsWith("dist/socket.js")));
    for (const path of modules) {
      assert.doesNotMatch(readFileSync(resolve(path), "utf8").replace(/^ *(\*|\/\/).*/gm, ""), /\bimport\s*\(/, path);
    }
  }
});

test("in a Node without WebSocket, moorline takes that of ws, and the other entries say what to do", () => {
  const found = run("ws.mjs", `
    delete globalThis.WebSocket;
    const outcome = async (entry) => {
      const { connect } = await import(entry);
      // The WebSocket is looked for before the wasm.
      const client = connect("ws://127.0.0.1:1/", { wasm: new Uint8Array(8) });
      return client.ready().catch(({ code, remedy }) => [code, remedy]);
    };
    export default await Promise.all(["moorline", "moorline/inline", "moorline/slim"].map(outcome));
  `);
  assert.deepEqual(found.map(([code]) => code), ["wasm_invalid", "no_websocket", "no_websocket"]);
  assert.match(found[1][1], /import from moorline/);
});

const adapters = { "moorline/yjs": ["yjs", "bindYjs"], "moorline/loro": ["loro-crdt", "bindLoro"] };

/** What goes into the bundle of a page that uses one name of an entry, without the peer. */
async function bundleOf(entry, name, external, options) {
  const { outputFiles, metafile } = await build({
    stdin: { contents: `import { ${name} } from "${entry}"; globalThis.used = ${name};`, resolveDir: project },
    bundle: true, write: false, format: "esm", platform: "browser", metafile: true, logLevel: "silent", external, ...options,
  });
  const modules = Object.entries(Object.values(metafile.outputs)[0].inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0);
  return { text: outputFiles[0].text, modules: modules.map(([path]) => path.split("/").at(-1)) };
}

test("who binds no document pays for none, and who binds one pays little", async () => {
  const { modules } = await bundleOf("moorline", "connect", ["./glue.js"]);
  for (const module of ["binding.js", "yjs.js", "loro.js"]) assert.ok(!modules.includes(module), module);
  for (const [entry, [peer, name]] of Object.entries(adapters)) {
    const { text, modules } = await bundleOf(entry, name, [peer], { minify: true });
    const size = gzipSync(text).length;
    console.log(`${entry} ${size} bytes gzipped, with ${modules.join(", ")}`);
    assert.ok(size <= 6_800, `${entry} has ${size} bytes`);
    for (const module of ["client.js", "disk.js"]) assert.ok(!modules.includes(module), module);
  }
});

test("documents are bound with the very classes that the page has", async () => {
  const names = run("adapters.mjs", `
    import * as yjs from "moorline/yjs";
    import * as loro from "moorline/loro";
    export default [Object.keys(yjs), Object.keys(loro)];
  `);
  assert.deepEqual(names, [["bindYjs"], ["bindLoro"]]);
  for (const [entry, [peer, name]] of Object.entries(adapters)) {
    assert.match((await bundleOf(entry, name, [peer])).text, new RegExp(`from "${peer}"`));
    const unused = await bundle(entry, { stdin: { contents: `import "${entry}";`, resolveDir: project }, external: [peer] });
    assert.doesNotMatch(unused, /class|function/);
  }
});

test("bundles stay within their size", async () => {
  const gzipped = async (entry, external) => gzipSync(await bundle(entry, { minify: true, external })).length;
  const shell = await gzipped("moorline", ["./glue.js"]); // some 3 KB of it are the words of the registry of codes
  console.log(`shell ${shell} bytes gzipped${isReal ? `, with glue ${await gzipped("moorline")}` : ""}`);
  assert.ok(shell <= 25_500, `the shell has ${shell} bytes`);
  if (isReal) assert.ok((await gzipped("moorline")) <= 28_500);
});

test("every path of exports is there", () => {
  const paths = Object.values(manifest.exports).flatMap((target) => (typeof target === "string" ? target : Object.values(target)));
  for (const path of paths) assert.ok(existsSync(join(installed, path)), path);
});

test("the glue has what the boundary names", { skip: !isReal && "no npm/generated" }, async () => {
  const { Core, initSync } = await import(join(installed, "dist/glue.js"));
  assert.equal(typeof initSync, "function");
  const methods = [
    "start", "call", "grant", "cancel", "notify", "notifyConfirmed", "item", "end", "reply", "fail", "discovered",
    "retryNow", "ping", "stats", "close", "free", "follow", "hold", "unfollow", "request", "volatile", "page",
  ];
  for (const method of methods) assert.equal(typeof Core.prototype[method], "function", method);
  assert.doesNotMatch(readFileSync(join(installed, "dist/glue.js"), "utf8"), /import\.meta\.url/);
});
