// Behind nginx that ends TLS: identity document and WebSocket through one location, and whose address is whose.
import assert from "node:assert/strict";

import { assertHelps, claim } from "./support/claim.mjs";

/** `moorline serve` behind nginx, which serves the pages. */
async function behindNginx(stage, env) {
  const front = await stage.frontDoor();
  const server = await stage.moorline({ env: { MOORLINE__LOG__LEVEL: "debug", ...env(front) } });
  const { certificate } = await stage.nginx({ ...front, upstream: server.banner.listen[0].replace(/\/moorline$/, "") });
  return { ...front, server, certificate };
}

const forEverybody = ({ url }) => ({
  MOORLINE__AUTH__ANONYMOUS: "true",
  MOORLINE__SERVER__PUBLIC_URLS: url,
  MOORLINE__SERVER__TRUSTED_PROXIES: "127.0.0.1",
});

claim("a_page_connects_through_nginx_pinned_and_discovered_at_one_location", async (stage) => {
  const { https, server } = await behindNginx(stage, forEverybody);
  const key = await server.identityShow();
  const page = await stage.page(`${https}/index.html`, undefined, { ignoreHTTPSErrors: true });
  for (const [options, trust] of [[{}, "discovered"], [{ serverKey: key }, "pinned"]]) {
    const encryption = await page.evaluate(async (options) => {
      const client = moorline.connect("/moorline", options);
      const { encryption } = await client.ready();
      await client.close();
      return encryption;
    }, options);
    assert.deepEqual(encryption, { suite: "aes-256-gcm", trust, serverKey: key });
  }
  assert(page.sockets.every((url) => url.startsWith("wss://localhost:")), page.sockets.join());
});

claim("behind_nginx_the_log_has_the_address_of_each_client", async (stage) => {
  const { withWs } = await stage.project();
  const { url, server, certificate } = await behindNginx(stage, forEverybody);
  const client = stage.node(withWs, `
    import { WebSocket } from "ws";
    import { connect } from "moorline";
    for (const localAddress of ["127.0.0.5", "127.0.0.6"]) {
      // What it says of itself nginx replaces.
      const headers = { "X-Forwarded-For": "1.1.1.1", Forwarded: "for=1.1.1.1" };
      class From extends WebSocket {
        constructor(url, protocols) { super(url, protocols, { localAddress, headers }); }
      }
      const client = connect("${url}", { webSocket: From });
      const { encryption } = await client.ready();
      console.log(JSON.stringify(encryption.trust));
      await client.close();
    }
  `, { NODE_EXTRA_CA_CERTS: certificate });
  assert.equal(await client.next(), "discovered");
  assert.equal(await client.next(), "discovered");
  assert.deepEqual(await client.ended, { code: 0, signal: null });
  const connected = await server.errorsWith(`"event":"accept"`, 2);
  assert.deepEqual(connected.map((line) => JSON.parse(line).address), ["127.0.0.5:0", "127.0.0.6:0"]);
  assert(!server.errors.includes('"level":"WARN"'), server.errors);
});

claim("an_open_server_answers_nobody_through_nginx_and_the_client_is_told_why", async (stage) => {
  const { withWs } = await stage.project();
  const { https, url, certificate } = await behindNginx(stage, () => ({}));
  const client = stage.node(withWs, `
    import { connect, MoorlineError } from "moorline";
    const said = (value) => console.log(JSON.stringify(value));
    said((await fetch("${https}/moorline")).status);
    const client = connect("${url}");
    const { error } = await new Promise((resolve) => client.on("status", (status) => status.error && resolve(status)));
    const { code, message, remedy } = error;
    said({ isOurs: MoorlineError.is(error), code, message, remedy });
    await client.close();
  `, { NODE_EXTRA_CA_CERTS: certificate });
  assert.equal(await client.next(), 421);
  assertHelps(await client.next(), "host_refused");
});
