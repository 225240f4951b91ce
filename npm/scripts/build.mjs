/**
 * Builds dist/ from src/ and generated/ (`cargo xtask wasm` makes the latter).
 *
 * tsc compiles the shell file by file, so that a plain <script type="module"> can load it; this adds the three files
 * that come from Rust: the glue, the wasm, and the wasm as text for moorline/inline.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

if (!existsSync(at("generated/core_bg.wasm"))) {
  console.error("npm/generated is missing: run `cargo xtask wasm` first.");
  process.exit(1);
}

rmSync(at("dist"), { recursive: true, force: true });
execFileSync(process.execPath, [at("node_modules/typescript/bin/tsc"), "-p", at("tsconfig.json")], { stdio: "inherit" });

copyFileSync(at("generated/core.js"), at("dist/glue.js"));
copyFileSync(at("generated/core_bg.wasm"), at("dist/core.wasm"));
// Gzipped before base64: text in base64 compresses badly, and by a third it would be larger on the wire as well.
const gzippedBase64 = gzipSync(readFileSync(at("generated/core_bg.wasm")), { level: 9 }).toString("base64");
writeFileSync(
  at("dist/embedded.js"),
  `// Written by scripts/build.mjs: core.wasm, gzipped, in base64.\nexport const gzippedBase64 = "${gzippedBase64}";\n`,
);

for (const licence of ["LICENSE-MIT", "LICENSE-APACHE"]) copyFileSync(at(`../${licence}`), at(`dist/${licence}`));
