// openid-client: discovery at both places, a token for two resources, and its revocation.
import * as client from "openid-client";

const { CASES, CLIENT_ID, CLIENT_SECRET } = process.env;
const [api, other] = ["https://api.example.com", "https://other.example.com"];

async function use(issuer, algorithm) {
  const server = await client.discovery(new URL(issuer), CLIENT_ID, CLIENT_SECRET, undefined, { algorithm });
  const parameters = new URLSearchParams([["scope", "read:data"], ["resource", api], ["resource", other]]);
  const granted = await client.clientCredentialsGrant(server, parameters);
  await client.tokenRevocation(server, granted.access_token);
  const claims = JSON.parse(Buffer.from(granted.access_token.split(".")[1], "base64url"));
  return [granted.scope, claims.aud, server.serverMetadata().supportsPKCE()];
}

const found = {};
for (const { algorithm, issuer } of JSON.parse(CASES)) {
  found[algorithm] = [await use(issuer, "oauth2"), await use(issuer, "oidc")];
}
console.log(JSON.stringify(found));
