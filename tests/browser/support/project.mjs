/**
 * A project as a user has it: the packed tarball installed by npm, our pages, and what the bundlers make of them.
 *
 * Made once for a tarball and its pages, and shared by all test files: it is built aside and then renamed, so that files
 * that run at once do no harm to each other.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import * as esbuild from "esbuild";
import { build } from "vite";

import { here, scratch, tarball } from "./environment.mjs";

const run = promisify(execFile);

let made;

/** The folders of the project. */
export function project() {
  return (made ??= make());
}

async function make() {
  const folder = join(scratch, await fingerprint());
  const folders = {
    root: folder,
    /** What `npm install` made of the tarball. */
    installed: join(folder, "node_modules/moorline"),
    /** Built by Vite. */
    vite: join(folder, "built-by-vite"),
    /** Built by esbuild. */
    esbuild: join(folder, "built-by-esbuild"),
    /** The same package in a project of its own, beside npm's `ws`. */
    withWs: join(folder, "with-ws"),
  };
  const present = await readdir(folder).catch(() => undefined);
  if (present) return folders;

  await mkdir(scratch, { recursive: true });
  const old = (await readdir(scratch)).filter((name) => name.startsWith("project-"));
  const aside = await mkdtemp(join(scratch, "making-"));
  // With what they need themselves, so that nothing is downloaded.
  const documents = ["yjs", "lib0", "isomorphic.js", "loro-crdt"].map((name) => join(here, "node_modules", name));
  await install(aside, [tarball, ...documents]);
  await mkdir(join(aside, "with-ws"));
  await install(join(aside, "with-ws"), [tarball, join(here, "node_modules/ws")]);
  await cp(join(here, "pages"), aside, { recursive: true });
  await withVite(aside);
  await withEsbuild(aside);
  await rename(aside, folder).catch(() => rm(aside, { recursive: true }));
  for (const name of old) await rm(join(scratch, name), { recursive: true, force: true });
  return folders;
}

async function fingerprint() {
  const hash = createHash("sha256").update(await readFile(tarball));
  const pages = (await readdir(join(here, "pages"))).sort().map((name) => `pages/${name}`);
  for (const path of [...pages, "support/project.mjs", "package-lock.json"]) {
    hash.update(path).update(await readFile(join(here, path)));
  }
  return `project-${hash.digest("hex").slice(0, 16)}`;
}

async function install(folder, packages) {
  await writeFile(join(folder, "package.json"), JSON.stringify({ name: "scratch", private: true, type: "module" }));
  const args = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--install-links", "--loglevel=error"];
  await run("npm", [...args, ...packages], { cwd: folder });
}

async function withVite(root) {
  await build({
    root,
    configFile: false,
    logLevel: "warn",
    build: {
      outDir: "built-by-vite",
      rolldownOptions: { input: ["index.html", "chat.html", "documents.html"].map((page) => join(root, page)) },
    },
  });
}

async function withEsbuild(root) {
  const outdir = join(root, "built-by-esbuild");
  const bundle = (entry) =>
    esbuild.build({
      absWorkingDir: root,
      entryPoints: [entry],
      outdir,
      bundle: true,
      format: "esm",
      logLevel: "error",
      minify: true,
    });
  for (const entry of ["main.mjs", "inline.mjs", "slim.mjs"]) await bundle(entry);
  for (const name of ["main", "inline", "slim"]) {
    await writeFile(join(outdir, `${name}.html`), page(`<script type="module" src="./${name}.js"></script>`));
  }
}

/** A page with something in its body. */
export function page(body) {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>test</title><link rel="icon" href="data:,">${body}</html>\n`;
}
