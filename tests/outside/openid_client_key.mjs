// openid-client with a private key: private_key_jwt, and a token that DPoP binds to another key.
import { readFileSync } from "node:fs";

import { importPKCS8 } from "jose";
import * as client from "openid-client";

const { ORIGIN, KEY } = process.env;
const key = await importPKCS8(readFileSync(KEY, "utf8"), "ES256");
const options = { algorithm: "oauth2" };
const config = await client.discovery(new URL(ORIGIN), "signer", undefined, client.PrivateKeyJwt(key), options);
const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
const scope = { scope: "read:data" };
const url = new URL("/data", ORIGIN);

const plain = await client.clientCredentialsGrant(config, scope);
const bound = await client.clientCredentialsGrant(config, scope, { DPoP });
const fetched = async (token, options) =>
  (await client.fetchProtectedResource(config, token, url, "GET", undefined, undefined, options)).status;
console.log(
  JSON.stringify({
    plain: [plain.token_type, await fetched(plain.access_token)],
    bound: [bound.token_type, await fetched(bound.access_token, { DPoP })],
  }),
);
