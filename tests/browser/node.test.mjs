// The same tarball in Node, and against the program `moorline`.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";

import { claim } from "./support/claim.mjs";

const run = promisify(execFile);
const [MAJOR] = process.versions.node.split(".").map(Number);

/** Runs a module in a project until it ends by itself, and gives what it says by `say`. */
async function say(folder, source) {
  const text = `const say = (value) => console.log(JSON.stringify(value));\n${source}`;
  const { stdout, stderr } = await run(process.execPath, ["--input-type=module", "--eval", text], { cwd: folder, timeout: 30_000 });
  assert.equal(stderr, "");
  return JSON.parse(stdout);
}

claim("in_node_it_finds_the_package_ws_and_ends_with_the_program", async (stage) => {
  const { withWs } = await stage.project();
  const { url, key } = await stage.fixture();
  // It is not told to exit: nothing may be left that keeps the process.
  const said = await say(withWs, `
    import { connect } from "moorline";
    const client = connect("${url}");
    client.handle("name", () => "node");
    const session = await client.ready();
    const answers = [await client.call("double", 21), await client.call("ask", { name: "name" })];
    const bytes = await client.call("reverse", new Uint8Array([1, 2, 3]));
    await client.close();
    say({ encryption: session.encryption, answers, bytes: [...bytes] });
  `);
  assert.deepEqual(said, {
    encryption: { suite: "aes-256-gcm", trust: "discovered", serverKey: key },
    answers: [42, { ok: "node" }],
    bytes: [3, 2, 1],
  });
});

claim("in_node_it_takes_the_option_web_socket", async (stage) => {
  const { withWs } = await stage.project();
  const { url, key } = await stage.fixture();
  const said = await say(withWs, `
    import { WebSocket } from "ws";
    import { connect } from "moorline";
    let made = 0;
    class Mine extends WebSocket { constructor(...args) { super(...args); made++; } }
    const client = connect("${url}", { webSocket: Mine, serverKey: "${key}", encryption: "chacha20-poly1305" });
    const answer = await client.call("double", 4);
    const { encryption } = client.session;
    await client.close();
    say({ answer, made, encryption });
  `);
  assert.deepEqual(said, {
    answer: 8,
    made: 1,
    encryption: { suite: "chacha20-poly1305", trust: "pinned", serverKey: key },
  });
});

claim("inline_and_slim_work_in_node_too_with_the_option_web_socket", async (stage) => {
  const { withWs } = await stage.project();
  const { url } = await stage.fixture();
  const entries = {
    "moorline/inline": "{ webSocket: WebSocket }",
    "moorline/slim": '{ webSocket: WebSocket, wasm: readFile(fileURLToPath(import.meta.resolve("moorline/core.wasm"))) }',
  };
  for (const [entry, options] of Object.entries(entries)) {
    const answer = await say(withWs, `
      import { readFile } from "node:fs/promises";
      import { fileURLToPath } from "node:url";
      import { WebSocket } from "ws";
      import { connect } from "${entry}";
      const client = connect("${url}", ${options});
      say(await client.call("double", 4));
      await client.close();
    `);
    assert.equal(answer, 8, entry);
  }
});

claim("node_without_a_websocket_and_without_ws_says_what_to_install", async (stage) => {
  if (MAJOR >= 22) return; // It has one of its own.
  const { root } = await stage.project();
  const error = await say(root, `
    import { connect } from "moorline";
    const client = connect("ws://127.0.0.1:1/moorline");
    const error = await client.ready().catch((error) => error);
    say({ code: error.code, remedy: error.remedy, status: client.status.status });
  `);
  assert.equal(error.code, "no_websocket");
  assert.match(error.remedy, /npm install ws/);
  assert.equal(error.status, "closed");
});

claim("in_node_a_server_that_is_down_is_waited_for_and_nothing_is_thrown", async (stage) => {
  const { withWs } = await stage.project();
  const gone = await stage.fixture();
  await gone.stop("SIGKILL");
  const client = stage.node(withWs, `
    import { connect } from "moorline";
    const client = connect("${gone.url}", { reconnectBaseMs: 20, reconnectMaxMs: 50 });
    const failed = await new Promise((resolve) => client.on("status", (status) => status.error && resolve(status)));
    console.log(JSON.stringify({ status: failed.status, code: failed.error.code, remedy: failed.error.remedy }));
    console.log(JSON.stringify(await client.call("double", 3)));
    await client.close();
  `);
  const { status, code, remedy } = await client.next();
  assert.deepEqual([status, code], ["connecting", "server_unreachable"]);
  assert(remedy.length > 10);
  await stage.fixture({ port: gone.port });
  assert.equal(await client.next(), 6);
  assert.deepEqual(await client.ended, { code: 0, signal: null });
  assert.equal(client.errors, "");
});

claim("require_works_where_node_can_require_modules", async (stage) => {
  const { root } = await stage.project();
  const [, minor] = process.versions.node.split(".").map(Number);
  if (MAJOR < 22 && !(MAJOR === 20 && minor >= 19)) return;
  const { stdout } = await run(process.execPath, ["--no-warnings", "--eval", 'console.log(typeof require("moorline").connect)'], { cwd: root });
  assert.equal(stdout.trim(), "function");
});

claim("the_program_moorline_serves_the_packed_client_and_closes_politely", async (stage) => {
  const { withWs } = await stage.project();
  const server = await stage.moorline();
  const client = stage.node(withWs, `
    import { connect } from "moorline";
    const say = (value) => console.log(JSON.stringify(value));
    const client = connect("${server.url}");
    const { encryption } = await client.ready();
    say({ status: client.status.status, encryption });
    const error = await client.call("sayHello", "world").catch((error) => error);
    say({ code: error.code, name: error.name, remedy: error.remedy });
    const told = new Promise((resolve) => client.on("status", (status) => status.error && resolve(status)));
    const { status, error: reason } = await told;
    say({ status, code: reason.code, ref: reason.ref, retryable: reason.retryable });
    await new Promise((resolve) => client.on("status", ({ attempt }) => attempt > 2 && resolve()));
    say({ status: client.status.status });
    await client.close();
  `);

  const { status, encryption } = await client.next();
  assert.equal(status, "connected");
  assert.deepEqual(encryption, { suite: "aes-256-gcm", trust: "discovered", serverKey: await server.identityShow() });
  const { code, name, remedy } = await client.next();
  assert.deepEqual([code, name], ["not_found", "CallError"]);
  assert(remedy.length > 10);

  assert.deepEqual(await server.stop("SIGTERM"), { code: 0, signal: null });
  const told = await client.next();
  assert.deepEqual([told.status, told.code, told.retryable], ["connecting", "going_away", true]);
  assert(told.ref, "it was sealed");
  assert(server.errors.includes("closing"), server.errors);
  assert.deepEqual(await client.next(), { status: "connecting" }, "it keeps trying");
  assert.deepEqual(await client.ended, { code: 0, signal: null });
  assert.equal(client.errors, "");
});
