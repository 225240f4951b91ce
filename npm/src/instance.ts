import type { CoreClass } from "./boundary.js";
import type { WasmSource } from "./connect-types.js";
import { Core, initSync } from "./glue.js";
import { blocked, compile, unusable, type LocateWasm } from "./wasm.js";

// One instance serves every client of the page: it holds code, and each `Core` its own state.
let instance: Promise<CoreClass> | undefined;

/** The class `Core`, ready to be constructed. Fails as {@link compile} does; after a failure the next call tries anew. */
export function loadCore(source: WasmSource | LocateWasm): Promise<CoreClass> {
  return (instance ??= instantiate(source).catch((error) => {
    instance = undefined;
    throw error;
  }));
}

async function instantiate(source: WasmSource | LocateWasm): Promise<CoreClass> {
  const module = await compile(source);
  try {
    initSync({ module });
  } catch (cause) {
    throw blocked(cause) ?? unusable(cause);
  }
  return Core;
}
