import { readFileSync } from "node:fs";

import { defineConfig, type Plugin } from "vite";

// What a page with moorline needs and no more: its own scripts, WebAssembly, its own server. Not in development, where
// Vite puts styles into the page.
const policy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

const contentSecurityPolicy: Plugin = {
  name: "content-security-policy",
  apply: "build",
  transformIndexHtml: () => [
    { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: policy }, injectTo: "head-prepend" },
  ],
};

/** Puts a page into what all have in common, with what its first comment says of it. */
const frame: Plugin = {
  name: "frame",
  transformIndexHtml: {
    order: "pre",
    handler(page, { path }) {
      const [, head, main] = page.match(/^<!-- In frame\.html:\n(.*?)\n-->\n(.*)$/s)!;
      const words = new Map(head.split("\n").map((line) => line.split(/: (.*)/s) as [string, string]));
      const here = path === "/index.html" ? "./" : `.${path}`;
      return readFileSync("frame.html", "utf8")
        .replace(/\{(\w+)\}/g, (_, name: string) => (name === "main" ? main : words.get(name)!))
        .replace(`<a href="${here}"`, (link) => `${link} aria-current="page"`);
    },
  },
};

export default defineConfig({
  plugins: [frame, contentSecurityPolicy],
  // The package is replaced without a change of the lock file; Vite would go on with its copy of the old one.
  optimizeDeps: { exclude: ["moorline"] },
  // Files and no `data:` URLs, which the policy above refuses.
  build: {
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ["index.html", "chat.html", "text.html", "peers.html"] },
  },
  server: {
    host: "127.0.0.1",
    proxy: { "/moorline": { target: "http://127.0.0.1:2667", ws: true } },
  },
});
