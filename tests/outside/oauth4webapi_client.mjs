// A strict client: metadata, both ways to send a secret, a call, its refusal, and the token judged by RFC 9068.
import * as oauth from "oauth4webapi";

const { ORIGIN, CLIENT_ID, CLIENT_SECRET } = process.env;
const audience = "https://api.example.com";
const issuer = new URL(ORIGIN);
const client = { client_id: CLIENT_ID };

const discovered = await oauth.discoveryRequest(issuer, { algorithm: "oauth2" });
const server = await oauth.processDiscoveryResponse(issuer, discovered);
const openid = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer));

async function grant(authentication, parameters) {
  const response = await oauth.clientCredentialsGrantRequest(server, client, authentication, parameters);
  return oauth.processClientCredentialsResponse(server, client, response);
}

async function call(token, path) {
  try {
    const response = await oauth.protectedResourceRequest(token, "GET", new URL(path, issuer));
    return [response.status];
  } catch (error) {
    if (!(error instanceof oauth.WWWAuthenticateChallengeError)) throw error;
    const { scheme, parameters } = error.cause[0];
    return [error.status, scheme, parameters];
  }
}

async function refused(authentication, parameters) {
  try {
    await grant(authentication, parameters);
  } catch (error) {
    return error instanceof oauth.ResponseBodyError ? error.error : error.cause[0].scheme;
  }
}

const basic = await grant(oauth.ClientSecretBasic(CLIENT_SECRET), { scope: "read:data", resource: audience });
const post = await grant(oauth.ClientSecretPost(CLIENT_SECRET), { scope: "read:data" });
const request = new Request(new URL("/data", issuer), { headers: { authorization: `Bearer ${basic.access_token}` } });
const claims = await oauth.validateJwtAccessToken(server, request, audience);

console.log(
  JSON.stringify({
    same_metadata: JSON.stringify(server) === JSON.stringify(openid),
    granted: [basic, post].map(({ token_type, expires_in, scope }) => [token_type, expires_in, scope]),
    data: await call(basic.access_token, "/data"),
    forbidden: await call(basic.access_token, "/admin"),
    garbage: await call("garbage", "/data"),
    wrong_secret: await refused(oauth.ClientSecretPost("not the secret"), {}),
    wrong_scope: await refused(oauth.ClientSecretBasic(CLIENT_SECRET), { scope: "admin:all" }),
    subject: claims.sub,
  }),
);
