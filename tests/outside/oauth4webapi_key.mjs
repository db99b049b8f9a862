// A strict client with a private key: private_key_jwt, and a token that DPoP binds to another key.
import { readFileSync } from "node:fs";

import { importPKCS8 } from "jose";
import * as oauth from "oauth4webapi";

const { ORIGIN, KEY } = process.env;
const issuer = new URL(ORIGIN);
const server = await oauth.processDiscoveryResponse(
  issuer,
  await oauth.discoveryRequest(issuer, { algorithm: "oauth2" }),
);
const key = await importPKCS8(readFileSync(KEY, "utf8"), "ES256");
const client = { client_id: "signer" };

async function grant(authentication, options) {
  const parameters = { scope: "read:data" };
  const response = await oauth.clientCredentialsGrantRequest(server, client, authentication, parameters, options);
  return oauth.processClientCredentialsResponse(server, client, response);
}

async function call(token, options) {
  try {
    const url = new URL("/data", issuer);
    return (await oauth.protectedResourceRequest(token, "GET", url, undefined, undefined, options)).status;
  } catch (error) {
    if (!(error instanceof oauth.WWWAuthenticateChallengeError)) throw error;
    return [error.status, error.cause[0].scheme, error.cause[0].parameters.error];
  }
}

const plain = await grant(oauth.PrivateKeyJwt(key));
const bound = { DPoP: oauth.DPoP(client, await oauth.generateKeyPair("ES256")) };
const other = { DPoP: oauth.DPoP(client, await oauth.generateKeyPair("ES256")) };
const token = await grant(oauth.PrivateKeyJwt(key), bound);
let refused;
try {
  await grant(oauth.PrivateKeyJwt((await oauth.generateKeyPair("ES256")).privateKey));
} catch (error) {
  refused = error.error;
}
console.log(
  JSON.stringify({
    methods: server.token_endpoint_auth_methods_supported.includes("private_key_jwt"),
    plain: [plain.token_type, await call(plain.access_token)],
    bound: [token.token_type, await call(token.access_token, bound)],
    without_proof: await call(token.access_token),
    proof_of_another_key: await call(token.access_token, other),
    other_key: refused,
  }),
);
