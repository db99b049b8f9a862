// A service that verifies tokens while the gateway rotates its keys: jose's own remote JWK Set, kept all along.
import { execFileSync } from "node:child_process";
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from "jose";

const { ORIGIN, CLIENT_ID, CLIENT_SECRET, PORTCULLIS, FOLDER } = process.env;
// By default it looks again after half a minute at the earliest, for which a test does not wait.
const keys = createRemoteJWKSet(new URL("/.well-known/jwks.json", ORIGIN), { cooldownDuration: 0 });

async function token() {
  const form = { grant_type: "client_credentials", client_id: CLIENT_ID, client_secret: CLIENT_SECRET };
  const answer = await fetch(new URL("/oauth/token", ORIGIN), { method: "POST", body: new URLSearchParams(form) });
  return (await answer.json()).access_token;
}

const kid = (text) => decodeProtectedHeader(text).kid;
const options = { issuer: ORIGIN, audience: "https://api.example.com", typ: "at+jwt", algorithms: ["RS256"] };
const verified = async (text) => (await jwtVerify(text, keys, options)).payload.sub;
const rotate = (...how) => execFileSync(PORTCULLIS, ["keys", "rotate", ...how], { cwd: FOLDER });

async function tokenByAnotherKey(old) {
  const deadline = Date.now() + 15_000;
  while (Date.now() < deadline) {
    const next = await token();
    if (kid(next) !== kid(old)) return next;
  }
  throw new Error("the key does not change");
}

const before = await token();
const found = { before: await verified(before) };
rotate();
const during = await token();
found.during = [await verified(before), await verified(during)];
rotate("--now");
const after = await tokenByAnotherKey(during);
found.after = [await verified(before), await verified(during), await verified(after)];
console.log(JSON.stringify(found));
