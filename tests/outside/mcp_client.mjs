// The clients of the MCP SDK: discovery from a 401 on, a token by a secret or by a key, a call of a tool.
import { readFileSync } from "node:fs";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { ClientCredentialsProvider, PrivateKeyJwtProvider } from "@modelcontextprotocol/sdk/client/auth-extensions.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { ORIGIN, ISSUER, KEY, CLIENT_ID, CLIENT_SECRET } = process.env;

async function call(authProvider) {
  const client = new Client({ name: "outside", version: "1.0.0" });
  await client.connect(new StreamableHTTPClientTransport(new URL("/mcp", ORIGIN), { authProvider }));
  const result = await client.callTool({ name: "add", arguments: { a: 2, b: 3 } });
  await client.close();
  return [result.content[0].text, authProvider.tokens().scope];
}

const secret = new ClientCredentialsProvider({
  clientId: CLIENT_ID,
  clientSecret: CLIENT_SECRET,
  expectedIssuer: ISSUER,
});
const key = new PrivateKeyJwtProvider({
  clientId: "signer",
  privateKey: readFileSync(KEY, "utf8"),
  algorithm: "ES256",
  expectedIssuer: ISSUER,
});
console.log(JSON.stringify({ secret: await call(secret), key: await call(key) }));
