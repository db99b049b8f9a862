// An issuer as others build them: oidc-provider behind TLS, with JWT access tokens for the resources that clients name.
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { exportJWK, generateKeyPair } from "jose";
import { Provider } from "oidc-provider";

const { ORIGIN, CERTIFICATE, KEY, CLIENT_ID, CLIENT_SECRET } = process.env;

async function key(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, use: "sig", kid: `their-${alg}` };
}

const provider = new Provider(ORIGIN, {
  jwks: { keys: [await key("ES256"), await key("RS256")] },
  clients: [
    {
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  scopes: ["read:data", "write:data"],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        audience: resource,
        scope: "read:data write:data",
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
});

const tls = { cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) };
createServer(tls, provider.callback()).listen(Number(new URL(ORIGIN).port), "127.0.0.1", () => console.log("listening"));
// Whoever started it holds its standard input open for as long as it is to live.
process.stdin.resume().on("end", () => process.exit());
