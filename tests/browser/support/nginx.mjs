/** nginx that ends TLS before a server, as docs/OPERATING.md has it, on a port of its own. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";

import { nginx, scratch } from "./environment.mjs";
import { Running, startMoorline } from "./processes.mjs";

let made;

/** A certificate that nobody has signed, for localhost, and its key: `moorline serve --tls self-signed` makes one. */
async function certificate() {
  const server = await startMoorline({ args: ["--tls", "self-signed"] });
  const files = ["self-signed.pem", "self-signed.key"].map((name) => readFile(join(server.cwd, "moorline-data", name)));
  const [certificate, key] = await Promise.all(files);
  await server.stop("SIGKILL");
  return { certificate, key };
}

/** A port that is free now. nginx cannot choose one by itself. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** The port on which nginx will listen, and its URLs: the server behind it has to know them before. */
export async function reserve() {
  const port = await freePort();
  return { port, https: `https://localhost:${port}`, url: `wss://localhost:${port}/moorline` };
}

/**
 * @param port where it listens
 * @param upstream `http://…`, the server behind it
 * @param root a folder of pages
 */
export async function startNginx({ port, upstream, root }) {
  const { certificate: text, key } = await (made ??= certificate());
  const folder = await mkdtemp(join(scratch, "nginx-"));
  const file = join(folder, "certificate.pem");
  await writeFile(file, text);
  await writeFile(join(folder, "key.pem"), key, { mode: 0o600 });
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder};`);
  await writeFile(join(folder, "nginx.conf"), `
    daemon off;
    # As whom the test runs: its folder is nobody else's.
    ${process.getuid?.() === 0 ? "user root;" : ""}
    pid ${folder}/nginx.pid;
    error_log stderr;
    worker_processes 1;
    events {}
    http {
      access_log off;
      ${temporary.join("\n")}
      map $http_upgrade $moor_connection { default upgrade; "" ""; }
      types { text/html html; text/javascript js; application/wasm wasm; }
      server {
        listen 127.0.0.1:${port} ssl;
        ssl_certificate ${file};
        ssl_certificate_key ${folder}/key.pem;
        location = /moorline {
          proxy_pass ${upstream};
          proxy_http_version 1.1;
          proxy_set_header Upgrade $http_upgrade;
          proxy_set_header Connection $moor_connection;
          proxy_set_header Host $http_host;
          proxy_set_header X-Forwarded-For $remote_addr;
          proxy_set_header X-Forwarded-Proto $scheme;
          proxy_set_header Forwarded "";
          proxy_read_timeout 75s;
        }
        location / { root ${root}; }
      }
    }`);
  const running = new Running(nginx(), ["-p", folder, "-c", join(folder, "nginx.conf"), "-e", "stderr"]);
  void running.ended.then(() => rm(folder, { recursive: true, force: true }));
  await listening(running, port);
  return Object.assign(running, { certificate: file });
}

/** Waits until the port takes connections. A program that starts says nothing when it does. */
async function listening(running, port) {
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const how = await Promise.race([
      once(socket, "connect").then(() => "open", () => "closed"),
      running.ended.then(() => "ended"),
    ]);
    socket.destroy();
    if (how === "open") return;
    assert.equal(how, "closed", `nginx ended: ${running.errors}`);
  }
}
