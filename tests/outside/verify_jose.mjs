// jose and its remote JWK Set, with tokens of each algorithm.
import { createRemoteJWKSet, jwtVerify } from "jose";

import { tellOfEach } from "./each_algorithm.mjs";

await tellOfEach(async ({ algorithm, issuer, jwks_uri }, token) => {
  const keys = createRemoteJWKSet(new URL(jwks_uri));
  const expected = { issuer, audience: "https://api.example.com", typ: "at+jwt", algorithms: [algorithm] };
  return (await jwtVerify(token, keys, expected)).payload.sub;
});
