/** The same types in a project for Node, without the library DOM. */
import { readFile } from "node:fs/promises";

import { connect, type Client } from "moorline";
import { connect as connectSlim } from "moorline/slim";

const client: Client = connect("ws://127.0.0.1:2667/moorline");
void client.call("now", undefined, { signal: AbortSignal.timeout(100) });
void connectSlim("ws://127.0.0.1:2667/moorline", { wasm: readFile("core.wasm") });
void connectSlim("ws://127.0.0.1:2667/moorline", { wasm: fetch(new URL("https://example.com/core.wasm")) });
