/** A proxy between client and server that keeps what passes, with WebSocket's masking undone. */
import { once } from "node:events";
import { createServer } from "node:http";

import { WebSocket, WebSocketServer } from "ws";

/** @param serverUrl `ws://…` */
export async function startRecorder(serverUrl) {
  const upward = [];
  const downward = [];
  const sockets = new Set();
  const ends = [];
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
    ends.push(once(server, "close"));
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
    /** How many connections there have been. */
    get lines() { return ends.length; },
    /** When the server has ended the connection of this number, from 0. */
    ended: (number) => ends[number],
    /**
     * How many frames of this kind have passed, where nothing is sealed.
     * @param direction "upward" or "downward"
     */
    count(direction, kind) {
      const messages = direction === "upward" ? upward : downward;
      return messages.flatMap(kinds).filter((each) => each === kind).length;
    },
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

/** The numbers of frames. */
export const PING = 7;
export const PONG = 8;

/** The kinds of the frames in a record that is not sealed (`docs/PROTOCOL.md` § Frames). */
function kinds(record) {
  const found = [];
  if (record[0] !== 0x11) return found;
  for (let at = 1; at < record.length;) {
    found.push(record[at]);
    let length = 0;
    let scale = 1;
    for (at += 2; ; at++, scale *= 128) {
      length += (record[at] & 0x7f) * scale;
      if (record[at] < 0x80) break;
    }
    at += 1 + length;
  }
  return found;
}
