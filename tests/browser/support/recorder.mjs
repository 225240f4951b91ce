/** A proxy between client and server that keeps what passes, with WebSocket's masking undone. */
import { once } from "node:events";
import { createServer } from "node:http";

import { WebSocket, WebSocketServer } from "ws";

/** @param serverUrl `ws://…` */
export async function startRecorder(serverUrl) {
  const upward = [];
  const downward = [];
  const sockets = new Set();
  const http = createServer(async (_, response) => {
    // The question for the identity document, and none once the server is gone.
    const answered = await fetch(serverUrl.replace(/^ws/, "http")).catch(() => undefined);
    if (!answered) return response.destroy();
    response.writeHead(answered.status, { "content-type": "application/json", "access-control-allow-origin": "*" });
    response.end(await answered.text());
  });
  const accepting = new WebSocketServer({ server: http, handleProtocols: ([first]) => first });
  accepting.on("connection", (client, request) => {
    const server = new WebSocket(serverUrl, client.protocol, { origin: request.headers.origin });
    relay(client, server, upward);
    relay(server, client, downward);
    for (const socket of [client, server]) sockets.add(socket);
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  return {
    url: `ws://127.0.0.1:${http.address().port}/moorline`,
    /** From the page to the server. */
    get upward() { return Buffer.concat(upward); },
    /** From the server to the page. */
    get downward() { return Buffer.concat(downward); },
    /** Cuts every socket as a broken line does, without a word. */
    cut: () => sockets.forEach((socket) => socket.terminate()),
    stop: () => {
      sockets.forEach((socket) => socket.terminate());
      accepting.close();
      http.closeAllConnections();
      http.close();
    },
  };
}

function relay(from, to, recording) {
  const waiting = [];
  to.on("open", () => waiting.forEach((message) => to.send(message.data, { binary: message.isBinary })));
  from.on("message", (data, isBinary) => {
    recording.push(Buffer.from(data));
    if (to.readyState === WebSocket.CONNECTING) waiting.push({ data, isBinary });
    else to.send(data, { binary: isBinary });
  });
  from.on("error", () => {});
  from.on("close", (code) => to.close(code >= 3000 || code === 1000 ? code : undefined));
}
