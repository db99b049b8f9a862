// A service that verifies tokens by itself: jose, from the JWK Set alone.
import { createRemoteJWKSet, jwtVerify } from "jose";

const { ORIGIN, TOKEN } = process.env;
const keys = createRemoteJWKSet(new URL("/.well-known/jwks.json", ORIGIN));
const expected = {
  issuer: ORIGIN,
  audience: "https://api.example.com",
  typ: "at+jwt",
  algorithms: ["RS256"],
  requiredClaims: ["sub", "client_id", "scope", "iat", "nbf", "exp", "jti"],
};

async function refusal(token, change) {
  try {
    await jwtVerify(token, keys, { ...expected, ...change });
  } catch (error) {
    return error.code;
  }
}

const [head, body, signature] = TOKEN.split(".");
const changed = [head, body, (signature[0] === "A" ? "B" : "A") + signature.slice(1)].join(".");
const { payload } = await jwtVerify(TOKEN, keys, expected);
console.log(
  JSON.stringify({
    claims: payload,
    changed: await refusal(changed, {}),
    other_audience: await refusal(TOKEN, { audience: "https://other.example.com" }),
  }),
);
