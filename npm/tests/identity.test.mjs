import assert from "node:assert/strict";
import { test } from "node:test";

import { MoorlineClient } from "../dist/client.js";
import { AuthError, ConnectError } from "../dist/errors.js";
import { bytes, environment, failure, session, settings, turn } from "./fake-core.mjs";

async function opened(options) {
  const around = environment();
  const client = new MoorlineClient({ ...settings, ...options }, around);
  await turn();
  return { client, core: around.core };
}

const ann = { subject: "ann", tenant: "default", role: null, scopes: ["call:say"], meta: { level: 3 } };
const admission = (more) => ({ identity: bytes({ ...ann, ...more }) });
const welcomed = (core, more) => core.connected({ ...session, admission: admission(more) });

test("who the client is comes with the session, frozen, and is told", async () => {
  const { client, core } = await opened();
  const told = [];
  client.on("identity", (identity) => told.push(identity));
  assert.equal(client.identity, undefined);
  core.connected({ ...session, admission: { ...admission(), encoding: 1, data: bytes([1]), expiresInMs: 1_000 } });
  const { expiresAtMs, ...rest } = client.identity;
  assert.deepEqual(rest, { ...ann, role: undefined, data: [1] });
  assert(Math.abs(expiresAtMs - Date.now() - 1_000) < 500);
  assert(Object.isFrozen(client.identity));
  assert.deepEqual(told, [client.identity]);
  assert.equal("admission" in client.session, false);
  client.close();
});

test("a token provider is asked with the reason and the client's key, and what it gives is shown", async () => {
  const asked = [];
  const token = async ({ signal, ...request }) => (asked.push(request), `token ${asked.length}`);
  const { client, core } = await opened({ token, auth: { name: "ann" }, asksForCredentials: true });
  core.host.authorize(7, 1, "connect");
  await turn();
  core.host.authorize(8, 0, "expiring");
  await turn();
  assert.deepEqual(asked, [
    { reason: "connect", attempt: 1, clientKey: "-_8" },
    { reason: "expiring", attempt: 0, clientKey: "-_8" },
  ]);
  assert.deepEqual(core.only("authorized"), [
    ["authorized", 7, true, "token 1", { name: "ann" }],
    ["authorized", 8, true, "token 2", { name: "ann" }],
  ]);
  client.close();
});

test("what a token provider throws is the cause of the failed try", async () => {
  const thrown = new Error("the sign-in service is down");
  const { client, core } = await opened({ token: () => Promise.reject(thrown), asksForCredentials: true });
  core.host.authorize(1, 1, "connect");
  await turn();
  assert.deepEqual(core.only("authorized"), [["authorized", 1, false, undefined]]);
  core.lost({ error: failure("credentials_unavailable") });
  assert(client.status.error instanceof AuthError && client.status.error instanceof ConnectError);
  assert.equal(client.status.error.cause, thrown);
  client.close();
});

/** A try that hung was explained by what the try before it had thrown. */
test("regression: the cause of a failed try is what its own provider threw", async () => {
  const asked = [];
  const token = ({ signal }) => new Promise((_, reject) => asked.push({ signal, reject }));
  const { client, core } = await opened({ token, asksForCredentials: true });
  const failed = () => (core.lost({ error: failure("credentials_unavailable") }), client.status.error.cause);
  core.host.authorize(1, 1, "connect");
  asked[0].reject("first");
  await turn();
  assert.equal(failed(), "first");
  core.host.authorize(2, 2, "reconnect");
  await turn();
  assert.equal(failed(), undefined, "it has given nothing in time");
  core.host.authorize(3, 3, "reconnect");
  assert.equal(asked[1].signal.aborted, true);
  asked[1].reject("late");
  await turn();
  assert.equal(failed(), undefined);
  client.close();
});

/** Nobody heard of it before the connection ended. */
test("regression: a provider that fails when its token is to be renewed is an error event", async () => {
  const { client, core } = await opened({ token: () => Promise.reject("down"), asksForCredentials: true });
  const errors = [];
  client.on("error", (error) => errors.push(error));
  welcomed(core);
  core.host.authorize(1, 0, "expiring");
  await turn();
  assert.deepEqual(errors.map(({ name, code, cause }) => [name, code, cause]), [["AuthError", "credentials_unavailable", "down"]]);
  core.host.authorize(2, 1, "expired");
  await turn();
  assert.equal(errors.length, 1, "that is told by the status");
  client.close();
});

test("a provider that gives no text is a failed try, and one that is too late is not heard", async () => {
  const { client, core } = await opened({ token: () => 7, asksForCredentials: true });
  core.host.authorize(1, 1, "connect");
  await turn();
  assert.deepEqual(core.only("authorized"), [["authorized", 1, false, undefined]]);
  client.close();

  let answer, signal;
  const late = await opened({
    token: (request) => ((signal = request.signal), new Promise((resolve) => (answer = resolve))),
    asksForCredentials: true,
  });
  late.core.host.authorize(1, 1, "connect");
  await turn();
  late.core.closed();
  await turn();
  assert.equal(signal.aborted, true);
  answer("t");
  await turn();
  assert.deepEqual(late.core.only("authorized"), [], "its core is freed");
});

test("authenticate waits for its turn, and settles once each", async () => {
  const { client, core } = await opened();
  core.throws.authenticate = failure("connection_lost"); // Welcome is on its way.
  const first = client.authenticate({ token: "a" });
  welcomed(core, { subject: "anonymous" });
  core.throws.authenticate = failure("backpressure");
  const second = client.authenticate({ auth: { name: "bob" } });
  const [a, bob] = [["authenticate", "a"], ["authenticate", undefined, { name: "bob" }]];
  assert.deepEqual(core.only("authenticate"), [a, a, bob]);
  core.host.onAuthenticated(1, undefined, failure("unauthorized"));
  await assert.rejects(first, (error) => error instanceof AuthError && error.code === "unauthorized");
  assert.equal(client.identity.subject, "anonymous", "it stays who it was");
  assert.deepEqual(core.only("authenticate"), [a, a, bob, bob], "now it is the other's turn");
  core.host.onAuthenticated(2, admission({ subject: "bob" }), undefined);
  assert.equal((await second).subject, "bob");
  client.close();
});

/** A client whose token was over tried with it for ever, and a fresh one waited for a connection that never came. */
test("regression: what is shown while connecting is for the next connection, also before there is a core", async () => {
  const around = environment();
  const client = new MoorlineClient(settings, around);
  const who = client.authenticate({ token: "a" });
  await turn();
  const { core } = around;
  assert.deepEqual(core.log, [["authenticate", "a"], ["start"]]);
  core.host.onAuthenticated(1, admission(), undefined);
  assert.equal((await who).subject, "ann");
  core.lost({ error: failure("token_expired") });
  client.authenticate({ token: "b" }).catch(() => {});
  assert.deepEqual(core.only("authenticate").at(-1), ["authenticate", "b"]);
  client.close();
  core.closed();
});

/** An abort within a listener, while another was answered, came too late: what it had taken back was shown all the same. */
test("regression: what was given up is not shown when its turn comes", async () => {
  const { client, core } = await opened();
  welcomed(core, { subject: "anonymous" });
  const aborting = new AbortController();
  const first = client.authenticate({ token: "a" });
  core.throws.authenticate = failure("backpressure");
  const second = client.authenticate({ token: "b", signal: aborting.signal });
  client.on("identity", () => aborting.abort(new Error("enough")));
  core.host.onAuthenticated(1, admission(), undefined);
  await first;
  await assert.rejects(second, { message: "enough" });
  assert.equal(core.only("authenticate").length, 2);
  client.close();
});

test("what is given up is taken back where nobody has seen it", async () => {
  const { client, core } = await opened();
  core.unseen = true;
  const aborting = new AbortController();
  const first = client.authenticate({ token: "a", signal: aborting.signal });
  core.throws.authenticate = failure("backpressure");
  const second = client.authenticate({ token: "b" });
  aborting.abort(new Error("enough"));
  await assert.rejects(first, { message: "enough" });
  assert.deepEqual(core.only("withdraw"), [["withdraw", 1]]);
  assert.deepEqual(core.only("authenticate").at(-1), ["authenticate", "b"], "the next in line");
  core.host.onAuthenticated(2, admission(), undefined);
  await second;
  client.close();
});

/** The client was ann by then, and the next connection was shown what had been before: another, and a lost session. */
test("regression: what the server took after its caller had given up is shown to later connections", async () => {
  const { client, core } = await opened({ auth: { name: "guest" }, asksForCredentials: true });
  welcomed(core, { subject: "guest" });
  await assert.rejects(client.authenticate({ token: "a", timeoutMs: 1 }), { code: "timeout" });
  core.host.onAuthenticated(1, admission(), undefined);
  assert.equal(client.identity.subject, "ann");
  core.host.authorize(5, 1, "reconnect");
  await turn();
  assert.deepEqual(core.only("authorized"), [["authorized", 5, true, "a"]]);
  client.close();
});

/** A client with a provider that has been shown a token by itself; `authorized` is what it then shows for a reason. */
async function overridden(provider) {
  const { client, core } = await opened({ token: provider, auth: 7, asksForCredentials: true });
  welcomed(core);
  client.authenticate({ token: "mine" });
  core.host.onAuthenticated(1, admission({ subject: "root" }), undefined);
  let ticket = 10;
  const authorized = async (reason) => {
    core.host.authorize(++ticket, 1, reason);
    await turn();
    return core.only("authorized").at(-1).slice(2);
  };
  return { client, core, authorized };
}
const [MINE, FRESH, NOTHING] = [[true, "mine"], [true, "fresh", 7], [false, undefined]];

/** Its provider was never asked again: the client tried for ever with a token that was over. */
test("regression: a token that was shown by itself holds until it is renewed, and then the provider is asked", async () => {
  const { client, core, authorized } = await overridden(() => "fresh");
  assert.deepEqual(await authorized("reconnect"), MINE, "it is good");
  assert.deepEqual(await authorized("expiring"), FRESH);
  core.host.onAuthenticated(2, undefined, failure("unauthorized"));
  assert.deepEqual(await authorized("reconnect"), MINE, "the fresh one was not taken");
  assert.deepEqual(await authorized("expiring"), FRESH);
  core.host.onAuthenticated(3, admission(), undefined);
  assert.deepEqual(await authorized("reconnect"), FRESH, "it was taken");
  client.close();
});

test("a token that was shown by itself and is over is followed by the provider's, also when that fails at first", async () => {
  let down = true;
  const { client, authorized } = await overridden(() => { if (down) throw new Error("down"); return "fresh"; });
  assert.deepEqual(await authorized("expiring"), NOTHING);
  assert.deepEqual(await authorized("reconnect"), MINE, "it is good for a moment still");
  assert.deepEqual(await authorized("expired"), NOTHING);
  down = false;
  assert.deepEqual(await authorized("reconnect"), FRESH);
  client.close();
});

test("what was shown for the auth handler renews itself, and without a provider nothing else can", async () => {
  for (const options of [{ token: () => "fresh" }, { token: "first" }, { auth: 7 }]) {
    const { client, core } = await opened({ ...options, asksForCredentials: true });
    welcomed(core);
    client.authenticate(options.auth ? { token: "mine" } : { auth: "mine" });
    core.host.onAuthenticated(1, admission(), undefined);
    for (const reason of ["expiring", "expired", "reconnect"]) core.host.authorize(5, 1, reason), await turn();
    const shown = options.auth ? ["mine"] : [undefined, "mine"];
    assert.deepEqual(core.only("authorized"), Array(3).fill(["authorized", 5, true, ...shown]));
    client.close();
  }
});

test("whoever is asked for a token hears that it is not needed any more, and what follows is no error", async () => {
  const token = ({ signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  for (const end of [(core) => core.host.onAuthenticated(1, admission(), undefined), (core) => core.closed()]) {
    const { client, core } = await opened({ token, asksForCredentials: true });
    client.on("error", assert.fail);
    welcomed(core);
    core.host.authorize(1, 0, "expiring");
    client.authenticate({ token: "mine" }).catch(() => {});
    end(core);
    await turn();
    assert.deepEqual(core.only("authorized"), []);
    client.close();
  }
});

test("authenticate ends with a timeout, an abort, or the client", async () => {
  const { client, core } = await opened();
  await assert.rejects(client.authenticate({ token: "a", timeoutMs: 1 }), { code: "timeout" });
  const aborting = new AbortController();
  const aborted = client.authenticate({ token: "a", signal: aborting.signal });
  aborting.abort(new Error("enough"));
  await assert.rejects(aborted, { message: "enough" });
  const left = client.authenticate({ token: "a" });
  core.closed();
  await assert.rejects(left, { code: "closed" });
  await assert.rejects(client.authenticate({ token: "a" }), { code: "closed" });
  await assert.rejects(client.authenticate({}), { code: "invalid_option" });
  await assert.rejects(client.authenticate({ token: "a", auth: 1 }), { code: "invalid_option" });
});

test("a renewal that fails is told where nobody asked for it, and a warning is", async () => {
  const { client, core } = await opened();
  const [errors, warnings] = [[], []];
  client.on("error", (error) => errors.push(error.code));
  client.on("warning", (warning) => warnings.push(warning));
  welcomed(core);
  core.host.onAuthenticated(1, undefined, failure("unauthorized"));
  core.host.onWarning(failure("rate_limited", { message: "slow down" }));
  assert.deepEqual(errors, ["unauthorized"]);
  assert.deepEqual(warnings, [{ code: "rate_limited", message: "slow down" }]);
  client.close();
});

test("what an auth handler refuses with is an AuthError with its own code", async () => {
  const { client, core } = await opened();
  core.closed(failure("name_required", { message: "Tell us your name first" }));
  assert(client.status.error instanceof AuthError);
  assert.deepEqual([client.status.error.code, client.status.error.remedy], ["name_required", "Tell us your name first"]);
});
