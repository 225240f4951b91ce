/** Where things are. `cargo xtask test browser` says so; the defaults are for `node --test` by hand. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const here = fileURLToPath(new URL("../", import.meta.url));
export const repository = join(here, "../..");
const target = resolve(repository, process.env.CARGO_TARGET_DIR ?? "target");

/** The packed npm package. */
export const tarball = present(process.env.MOORLINE_TARBALL ?? join(target, "npm/moorline-0.1.0.tgz"), "cargo xtask npm");

export const chromium = present(process.env.MOORLINE_CHROMIUM ?? "/usr/bin/chromium", "apt-get install chromium");

export const chromiumArguments = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Pages find each other over this machine's own address where it has no other.
  "--allow-loopback-in-peer-connection",
  // Names that are not this machine to whoever reads them, and are nevertheless.
  "--host-resolver-rules=MAP *.test 127.0.0.1",
];

/** Only some tests need it. */
export const nginx = () => present(process.env.MOORLINE_NGINX ?? "/usr/sbin/nginx", "apt-get install nginx");

/** Where the tests make their projects: never in the repository's own folders. */
export const scratch = join(target, "browser-tests");

/** A program of ours that cargo has built. */
export function program(name) {
  const folder = process.env.MOORLINE_BIN ?? join(target, "debug");
  return present(join(folder, name), "cargo build -p moorline -p moorline-tests -p moorline-demo --bins");
}

function present(path, remedy) {
  if (!existsSync(path)) throw new Error(`${path} is missing: run \`${remedy}\` first`);
  return path;
}
