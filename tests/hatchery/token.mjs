// Signs somebody in at the issuer and prints their access token.
//   node token.mjs ISSUER NAME RESOURCE
import { createHash, randomBytes } from "node:crypto";
import { Person } from "../sign-in/person.mjs";

const [issuer, name, resource] = process.argv.slice(2);
const verifier = randomBytes(32).toString("base64url");
const back = `${issuer}/nobody`;
const query = new URLSearchParams({
  client_id: "portal",
  response_type: "code",
  redirect_uri: back,
  scope: "openid",
  resource,
  code_challenge: createHash("sha256").update(verifier).digest("base64url"),
  code_challenge_method: "S256",
});
const person = new Person();
let page = await person.go("GET", `${issuer}/auth?${query}`);
for (let pages = 0; page.url.pathname !== "/nobody"; pages += 1) {
  if (pages > 4) throw new Error(`the issuer does not come to an end: ${person.trail.join(", ")}`);
  page = await person.submit(page, "/interaction/", page.text.includes('name="login"') ? { login: name, password: "x" } : {});
}
const code = page.url.searchParams.get("code");
const body = new URLSearchParams({
  client_id: "portal",
  grant_type: "authorization_code",
  code,
  redirect_uri: back,
  code_verifier: verifier,
  resource,
});
const answer = await fetch(`${issuer}/token`, { method: "POST", body });
const tokens = await answer.json();
if (!tokens.access_token) throw new Error(JSON.stringify(tokens));
console.log(tokens.access_token);
