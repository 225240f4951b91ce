/** The demo on a stage: its server, which can be started again, and its windows. */
import { join } from "node:path";

import { repository } from "./environment.mjs";
import { startDemo } from "./processes.mjs";

const pages = join(repository, "www/dist");

/** The demo's server. `restart` kills it and starts another one with what it kept, at the same address. */
export async function demo(stage) {
  let running = await startDemo(pages);
  stage.onEnd(async () => {
    await running.stop("SIGKILL");
    await running.forget();
  });
  return {
    http: running.http,
    kill: () => running.stop("SIGKILL"),
    start: async () => void (running = await startDemo(pages, running)),
    restart: async () => {
      await running.stop("SIGKILL");
      running = await startDemo(pages, running);
    },
  };
}

/** A window of one of the pages beside the room, of somebody of this name, with a line. */
export async function visit(stage, http, file, name, { init = "", ...options } = {}) {
  const named = `sessionStorage["moorline.name"] ??= ${JSON.stringify(name)}; ${init}`;
  const page = await stage.page(`${http}/${file}`, named, options);
  await connected(page);
  return page;
}

export const connected = (page) => page.locator("#pill[data-status=connected]").waitFor();

/** Cuts the line, or mends it. */
export async function cut(page) {
  await page.getByRole("button", { name: "Cut the line", pressed: false }).click();
  await page.locator("#pill[data-status=connecting]").waitFor();
}

export async function mend(page) {
  await page.getByRole("button", { name: "Cut the line", pressed: true }).click();
  await connected(page);
}

/** One of those who are here, in the list of a page. */
export const member = (page, name) => page.locator("#members li", { hasText: name });
