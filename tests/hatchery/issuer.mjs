// A real OpenID Connect provider on loopback that signs access tokens (RFC 9068), as a data commons does.
//   node issuer.mjs PORT
// Prints a line when it is ready. Anybody signs in as who they type.
import { Provider, errors } from "oidc-provider";

const [port] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
// What tokens are for: the workspaces, or something else that this provider guards.
const AUDIENCES = { "urn:workspaces": "workspaces", "urn:elsewhere": "elsewhere" };

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "portal",
      token_endpoint_auth_method: "none",
      redirect_uris: [`${issuer}/nobody`],
      response_types: ["code"],
      grant_types: ["authorization_code"],
      application_type: "native",
    },
  ],
  features: {
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (context, resource) => {
        if (!(resource in AUDIENCES)) throw new errors.InvalidTarget();
        return { scope: "", audience: AUDIENCES[resource], accessTokenFormat: "jwt", accessTokenTTL: 1200 };
      },
      useGrantedResource: () => true,
    },
  },
  extraTokenClaims: (context, token) => ({ context: { user: { name: `${token.accountId}@example.org` } } }),
  pkce: { required: () => true },
  cookies: { keys: ["a-key-of-this-test-alone"] },
  findAccount: (context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});
provider.on("server_error", (context, error) => console.error(error));
const server = provider.listen(Number(port), "127.0.0.1", () => console.log("the issuer is ready"));
// The issuer ends with who started it.
process.stdin.resume().on("end", () => process.exit(0));
server.on("error", (error) => {
  console.error(error.message);
  process.exit(1);
});
