// A strict client with a certificate: tls_client_auth, and a token that is bound to the certificate.
import { readFileSync } from "node:fs";

import * as oauth from "oauth4webapi";
import { Agent } from "undici";

const { ORIGIN, CA, CERTIFICATE, CERTIFICATE_KEY } = process.env;
const [ca, cert, key] = [CA, CERTIFICATE, CERTIFICATE_KEY].map((file) => readFileSync(file, "utf8"));
const dispatcher = new Agent({ connect: { ca, cert, key } });
const mutual = { [oauth.customFetch]: (url, options) => fetch(url, { ...options, dispatcher }) };
const issuer = new URL(ORIGIN);
const server = await oauth.processDiscoveryResponse(
  issuer,
  await oauth.discoveryRequest(issuer, { algorithm: "oauth2" }),
);
const client = { client_id: "mutual" };

async function grant(options) {
  const parameters = { scope: "read:data" };
  const response = await oauth.clientCredentialsGrantRequest(server, client, oauth.TlsClientAuth(), parameters, options);
  return oauth.processClientCredentialsResponse(server, client, response);
}

async function call(token, options) {
  try {
    const url = new URL("/data", issuer);
    return (await oauth.protectedResourceRequest(token, "GET", url, undefined, undefined, options)).status;
  } catch (error) {
    if (!(error instanceof oauth.WWWAuthenticateChallengeError)) throw error;
    return error.status;
  }
}

const { access_token } = await grant(mutual);
let refused;
try {
  await grant();
} catch (error) {
  refused = error.error;
}
console.log(
  JSON.stringify({
    methods: server.token_endpoint_auth_methods_supported.includes("tls_client_auth"),
    bound: await call(access_token, mutual),
    elsewhere: await call(access_token),
    without: refused,
  }),
);
process.exit();
