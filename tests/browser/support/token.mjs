/** Tokens by nothing of ours: what the server believes here, any library of JSON Web Tokens could have made. */
import { createHmac } from "node:crypto";

export const SECRET = "a secret of thirty-two bytes or more";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token of HS256 (RFC 7515 § A.1) that lasts for so many seconds. */
export function token(claims, { lastsS = 3_600, secret = SECRET } = {}) {
  const iat = Math.floor(Date.now() / 1_000);
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ iat, exp: iat + lastsS, ...claims })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}
