/** A static server that can be as wrong as tests need it. */
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};

/**
 * @param routes `{ prefix: value }`, the longest prefix that fits wins. The value is the path of a folder (the prefix ends
 *   with a slash) or of a file, the text of a page, or a function of request and response
 * @param headers of every answer
 * @param type what is sent as the type of `.wasm`
 */
export async function startSite(routes, { headers = {}, wasmType = TYPES[".wasm"] } = {}) {
  const requests = [];
  const prefixes = Object.keys(routes).sort((a, b) => b.length - a.length);
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://site");
    requests.push(pathname);
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    const prefix = prefixes.find((prefix) => pathname.startsWith(prefix));
    const route = routes[prefix];
    // What it asks in turn may be gone before it answers: then so is this.
    if (typeof route === "function") return Promise.resolve(route(request, response)).catch(() => response.destroy());
    if (typeof route === "string" && route.startsWith("<")) return answer(response, 200, TYPES[".html"], route);
    const path = route && join(route, prefix.endsWith("/") ? pathname.slice(prefix.length) || "index.html" : "");
    const isFile = path && (await stat(path).then((entry) => entry.isFile(), () => false));
    if (!isFile) return answer(response, 404, "text/plain", "not here");
    response.setHeader("content-type", path.endsWith(".wasm") ? wasmType : (TYPES[extname(path)] ?? "text/plain"));
    createReadStream(path).pipe(response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  return {
    port,
    http: `http://127.0.0.1:${port}`,
    requests,
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

export function answer(response, status, type, body) {
  response.writeHead(status, { "content-type": type });
  response.end(body);
}
