/** The wasm as text, for `moorline/inline`. The build writes `embedded.js`. */
export const base64: string;
