/** The wasm as text, gzipped and in base64, for `moorline/inline`. The build writes `embedded.js`. */
export const gzippedBase64: string;
