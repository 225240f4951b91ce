/** Programs that a test starts: their lines as they come, and an end to them. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import { program, scratch } from "./environment.mjs";

/** A program that runs. Its standard input stays open as long as this process lives, and ends with it. */
export class Running {
  #stdout = "";
  #stderr = "";

  constructor(command, args, options = {}) {
    this.child = spawn(command, args, { ...options, stdio: "pipe" });
    this.ended = new Promise((resolve) => this.child.once("close", (code, signal) => resolve({ code, signal })));
    this.child.stderr.on("data", (text) => (this.#stderr += text));
    this.child.stdin.on("error", () => {}); // It may be gone already.
    this.child.stdout.setEncoding("utf8").on("data", (text) => (this.#stdout += text));
  }

  get errors() {
    return this.#stderr;
  }

  /** The next line of JSON on its standard output. */
  async next() {
    return JSON.parse(await this.nextLine());
  }

  async nextLine() {
    await this.#until(this.child.stdout, () => this.#stdout.includes("\n"));
    const end = this.#stdout.indexOf("\n");
    const line = this.#stdout.slice(0, end);
    this.#stdout = this.#stdout.slice(end + 1);
    return line;
  }

  /** The first line on its standard error. */
  async firstError() {
    await this.#until(this.child.stderr, () => this.#stderr.includes("\n"));
    return this.#stderr.slice(0, this.#stderr.indexOf("\n"));
  }

  /** The lines on its standard error that have these words, once there are as many. */
  async errorsWith(words, count) {
    const lines = () => this.#stderr.split("\n").slice(0, -1).filter((line) => line.includes(words));
    await this.#until(this.child.stderr, () => lines().length >= count);
    return lines();
  }

  async #until(stream, passes) {
    while (!passes()) {
      const ended = await Promise.race([once(stream, "data").then(() => undefined), this.ended]);
      if (ended && !passes()) assert.fail(`it ended early: ${JSON.stringify(ended)}\n${this.#stderr}`);
    }
  }

  send(value) {
    this.child.stdin.write(`${JSON.stringify(value)}\n`);
  }

  /** Sends a signal and waits for the end. */
  async stop(signal = "SIGTERM") {
    this.child.kill(signal);
    return this.ended;
  }
}

/** `tests/src/bin/fixture.rs`. Options are its flags in camelCase; an array for one that stands several times. */
export async function startFixture(options = {}) {
  const flags = Object.entries(options).flatMap(([name, values]) => {
    const flag = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    return [values].flat().flatMap((value) => [flag, String(value)]);
  });
  const running = new Running(program("fixture"), flags);
  const { url, http, key } = await running.next();
  return Object.assign(running, { url, http, key, port: Number(new URL(http).port) });
}

const keys = new Map();

/** The key of a fixture with this seed. */
export async function keyOf(seed) {
  if (!keys.has(seed)) {
    const fixture = await startFixture({ keySeed: seed });
    keys.set(seed, fixture.key);
    await fixture.stop("SIGKILL");
  }
  return keys.get(seed);
}

/** What one of our programs prints, without the line's end, when it ends by itself. */
export async function finished(name, args) {
  const { stdout } = await promisify(execFile)(program(name), args);
  return stdout.trimEnd();
}

/** `moorline serve` in a directory of its own, which goes with it. */
export async function startMoorline({ args = [], env: more = {} } = {}) {
  await mkdir(scratch, { recursive: true });
  const cwd = await mkdtemp(join(scratch, "serve-"));
  const env = { MOORLINE__LOG__FORMAT: "json", ...more };
  const running = new Running(program("moorline"), ["serve", "--listen", "127.0.0.1:0", ...args], { cwd, env });
  void running.ended.then(() => rm(cwd, { recursive: true, force: true }));
  const banner = JSON.parse(await running.firstError());
  const url = banner.listen[0].replace(/^http/, "ws");
  const shown = async () => {
    const shows = new Running(program("moorline"), ["identity", "show"], { cwd, env });
    let text = "";
    shows.child.stdout.on("data", (data) => (text += data));
    await shows.ended;
    return text.trim();
  };
  return Object.assign(running, { cwd, url, banner, identityShow: shown });
}

/**
 * The demo with these pages, configured by nothing but a port and a directory of its own, which goes with it.
 *
 * @param before one that has ended: it goes on at the same address, with what that one kept
 */
export async function startDemo(pages, before) {
  await mkdir(scratch, { recursive: true });
  const cwd = before?.cwd ?? (await mkdtemp(join(scratch, "demo-")));
  const env = { MOORLINE__SERVER__LISTEN: before ? new URL(before.http).host : "127.0.0.1:0" };
  const running = new Running(program("moorline-demo"), [pages], { cwd, env });
  const [http] = (await running.nextLine()).match(/http:[\d./:]+\d/);
  return Object.assign(running, { cwd, http, forget: () => rm(cwd, { recursive: true, force: true }) });
}

/** A module that Node runs in a project's folder. It talks by lines of JSON. */
export function startNode(folder, source, env = {}) {
  const options = { cwd: folder, env: { ...process.env, ...env } };
  return new Running(process.execPath, ["--input-type=module", "--eval", source], options);
}
