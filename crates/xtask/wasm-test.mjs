// Runs one wasm32-unknown-unknown test binary of cargo in Node: the `runner` of `cargo xtask test wasm`.
// README.md beside this file tells what such a test may do.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { argv, exit } from "node:process";

const file = argv[2];
const module = await WebAssembly.compile(await readFile(file));

// The protocol must need nothing from its host: no clock, no random source, no "env".
const imports = WebAssembly.Module.imports(module);
if (imports.length > 0) {
  console.error(`${basename(file)} imports from its host, which protocol must not:`);
  for (const { module: from, name } of imports) console.error(`  "${from}" "${name}"`);
  exit(1);
}

const { exports } = await WebAssembly.instantiate(module, {});
let trap;
try {
  // libtest's main: 0 when every test passed; a panic, or exit(101), is a trap.
  const code = exports.main(0, 0);
  if (code !== 0) trap = new Error(`main returned ${code}`);
} catch (error) {
  trap = error;
}

// The target has no standard output, but what libtest wrote to it is still in its buffers.
const memory = new TextDecoder("latin1").decode(exports.memory.buffer);
const counts = /(\d+) passed; (\d+) failed; (\d+) ignored; \d+ measured; \d+ filtered out/.exec(memory);

if (trap) {
  const said = memory.matchAll(/panicked at [^\0\n]+:\d+:\d+:\n[\x09\x0a\x20-\xff]{0,2000}|Error: [\x20-\xff]{1,500}\n/g);
  for (const message of new Set([...said].map(([text]) => utf8(text)))) console.error(message);
  console.error(trap.stack);
  console.error(`test result: FAILED. ${counts?.[0] ?? "a test panicked; the rest of this file did not run"}`);
  exit(101);
}
console.log(`test result: ok. ${counts?.[0] ?? "every test passed (their number was not kept)"}`);

/** Memory was read byte by byte to search it; a message in it is UTF-8. */
function utf8(text) {
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  return new TextDecoder().decode(bytes).split("\nnote: run with `RUST_BACKTRACE")[0].trimEnd();
}
