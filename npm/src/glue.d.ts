/**
 * What the shell uses of wasm-bindgen's output.
 *
 * The build copies `generated/core.js` beside the compiled shell as `glue.js`. Its shape is written down here, so that
 * the shell is checked without building any Rust, and so that no generated type reaches the public surface.
 */
import type { CoreClass } from "./boundary.js";

export const Core: CoreClass;
export function initSync(source: { module: WebAssembly.Module }): unknown;
