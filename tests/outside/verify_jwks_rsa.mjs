// jwks-rsa, which finds the key, and jsonwebtoken, which verifies, with tokens of each algorithm that it knows.
import jsonwebtoken from "jsonwebtoken";
import jwksRsa from "jwks-rsa";

import { tellOfEach } from "./each_algorithm.mjs";

await tellOfEach(async ({ algorithm, issuer, jwks_uri }, token) => {
  const client = jwksRsa({ jwksUri: jwks_uri });
  const key = await client.getSigningKey(jsonwebtoken.decode(token, { complete: true }).header.kid);
  const expected = { algorithms: [algorithm], issuer, audience: "https://api.example.com" };
  return jsonwebtoken.verify(token, key.getPublicKey(), expected).sub;
});
