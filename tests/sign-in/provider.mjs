// A real OpenID Connect provider, with a page where anybody signs in as who they type.
//   [ISSUER=https://... TLS_KEY=FILE TLS_CERTIFICATE=FILE HUB_AT=ADDRESS:PORT] node provider.mjs ADDRESS:PORT HUB
// Without an issuer of its own it is http://ADDRESS:PORT. HUB_AT is where the hub's name leads, when no name server says so;
// its certificate is the test's own then. Prints a line when it is ready.
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { Provider } from "oidc-provider";

const [place, hub] = process.argv.slice(2);
const [address, port] = place.split(":");
const { ISSUER, TLS_KEY, TLS_CERTIFICATE, HUB_AT } = process.env;
const PEOPLE = {
  ada: { preferred_username: "ada", groups: ["physics", "staff"], roles: ["operators"] },
  grace: { preferred_username: "grace", groups: ["chemistry"], roles: ["auditors"] },
  mallory: { preferred_username: "admin", groups: [], roles: [] },
  // Says of herself what makes her look like ada, but what nobody checked.
  eve: { preferred_username: "ada", email: "ada@example.org", email_verified: false, hd: "example.org", groups: ["chemistry"] },
  // An operator in none of the groups; the address is in the operators' domain.
  trudy: { preferred_username: "trudy", email: "trudy@staff.example.org", email_verified: true, groups: [], roles: ["operators"] },
};

/** A request to the hub, at the place where it is. */
function toHub(url, { method, headers, body }) {
  const { hostname, host, pathname, search } = new URL(url);
  const [at, atPort] = HUB_AT.split(":");
  const text = String(body ?? "");
  const sent = {
    ...Object.fromEntries(new Headers(headers)),
    host,
    "content-type": "application/x-www-form-urlencoded",
    "content-length": Buffer.byteLength(text),
  };
  const where = { host: at, port: atPort, servername: hostname, path: pathname + search, rejectUnauthorized: false };
  return new Promise((resolve, reject) => {
    const request = https.request({ ...where, method, headers: sent }, (answer) => {
      answer.resume();
      answer.on("end", () => resolve(new Response(null, { status: answer.statusCode })));
    });
    request.on("error", reject);
    request.end(text);
  });
}

const provider = new Provider(ISSUER ?? `http://${place}`, {
  clients: [
    {
      client_id: "cubicle",
      client_secret: "a-secret-of-this-test-alone",
      redirect_uris: [`${hub}/sign-in/with/campus/back`],
      post_logout_redirect_uris: [`${hub}/signed-out`],
      backchannel_logout_uri: `${hub}/sign-in/with/campus/ended`,
      backchannel_logout_session_required: true,
      response_types: ["code"],
      grant_types: ["authorization_code"],
    },
  ],
  claims: { openid: ["sub"], profile: ["preferred_username", "groups", "roles"], email: ["email", "email_verified", "hd"] },
  features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true } },
  pkce: { required: () => true },
  // By itself it talks to no address of this machine, which is where the hub is.
  fetch: (url, { dispatcher, ...options }) => (HUB_AT ? toHub(url, options) : fetch(url, options)),
  cookies: { keys: ["a-key-of-this-test-alone"] },
  findAccount: (context, id) => ({ accountId: id, claims: () => ({ sub: id, ...PEOPLE[id] }) }),
});
provider.on("backchannel.error", (context, error) => console.error(`back-channel logout failed: ${error.message}`));
provider.on("server_error", (context, error) => console.error(error));
const server = TLS_KEY
  ? https.createServer({ key: readFileSync(TLS_KEY), cert: readFileSync(TLS_CERTIFICATE) }, provider.callback())
  : http.createServer(provider.callback());
server.listen(Number(port), address, () => console.log("the provider is ready"));
// The provider ends with who started it.
process.stdin.resume().on("end", () => process.exit(0));
server.on("error", (error) => {
  console.error(error.message);
  process.exit(1);
});
