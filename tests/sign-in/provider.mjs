// A real OpenID Connect provider on loopback, with a page where anybody signs in as who they type.
//   node provider.mjs PORT HUB
// Prints a line when it is ready.
import { Provider } from "oidc-provider";

const [port, hub] = process.argv.slice(2);
const PEOPLE = {
  ada: { preferred_username: "ada", groups: ["physics", "staff"], roles: ["operators"] },
  grace: { preferred_username: "grace", groups: ["chemistry"], roles: ["auditors"] },
  mallory: { preferred_username: "admin", groups: [], roles: [] },
};

const provider = new Provider(`http://127.0.0.1:${port}`, {
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
  claims: { openid: ["sub"], profile: ["preferred_username", "groups", "roles"], email: ["email"] },
  features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true } },
  pkce: { required: () => true },
  // By itself it talks to no address of this machine, which is where the hub is.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  cookies: { keys: ["a-key-of-this-test-alone"] },
  findAccount: (context, id) => ({ accountId: id, claims: () => ({ sub: id, ...PEOPLE[id] }) }),
});
provider.on("backchannel.error", (context, error) => console.error(`back-channel logout failed: ${error.message}`));
provider.on("server_error", (context, error) => console.error(error));
const server = provider.listen(Number(port), "127.0.0.1", () => console.log("the provider is ready"));
// The provider ends with who started it.
process.stdin.resume().on("end", () => process.exit(0));
server.on("error", (error) => {
  console.error(error.message);
  process.exit(1);
});
