import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mock, test } from "node:test";

import { Core, npm, PLAIN, text, frame, record, WELCOME, frames, call, CALL, REPLY } from "./play.mjs";

const require = createRequire(new URL("package.json", npm));
let ws;
try {
  ws = require("ws");
} catch {
  // npm's packages are not installed; `cargo xtask npm` does it.
}

test("the package ws does as a socket, also when it is closed while it connects", { skip: !ws }, async () => {
  mock.timers.reset();
  const server = new ws.WebSocketServer({ port: 0, handleProtocols: () => "moorline.v1.plain" });
  server.on("connection", (peer) => peer.on("message", (data) => {
    if (data[0] === 0x04) peer.send(record(WELCOME));
    for (const { kind, body } of frames([new Uint8Array(data)])) {
      if (kind === CALL) peer.send(record(frame(REPLY, body[0], 1, 0x31)));
    }
  }));
  const { port } = server.address();
  const settled = await new Promise((resolve) => {
    const host = {
      openSocket: (url, protocols) => new ws.WebSocket(url, protocols),
      onStatus: ({ status }) => { if (status === "connected") call(core); },
      onSession() {},
      onSettled: (...values) => resolve(values),
    };
    const options = { ...PLAIN, url: `ws://127.0.0.1:${port}/`, allowInsecureDiscovery: false, sharedKey: "", asksForCredentials: false, connectTimeoutMs: 5_000,
      callTimeoutMs: 5_000, reconnect: false, reconnectBaseMs: 1, reconnectMaxMs: 1, clientVersion: "test" };
    const core = new Core(options, host);
    core.start();
    const hasty = new Core(options, { ...host, onStatus() {} });
    hasty.start();
    hasty.close();
  });
  assert.deepEqual(settled.slice(0, 4), [1, true, 1, text("1")]);
  for (const peer of server.clients) peer.terminate();
  await new Promise((resolve) => server.close(resolve));
});
