"""The clients of the MCP SDK: discovery from a 401 on, a token by a secret or by a key, a call of a tool."""

import asyncio
import os

import httpx2
from mcp.client import Client
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.streamable_http import streamable_http_client

from surroundings import CLIENT_ID, CLIENT_SECRET, ORIGIN, tell

URL = f"{ORIGIN}/mcp"
ISSUER = os.environ["ISSUER"]


class Memory:
    """The tokens of one provider."""

    def __init__(self):
        self.tokens = None
        self.client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


async def call(provider, memory):
    async with httpx2.AsyncClient(auth=provider, follow_redirects=True) as http:
        async with Client(streamable_http_client(URL, http_client=http)) as client:
            result = await client.call_tool("add", {"a": 2, "b": 3})
            return [result.content[0].text, memory.tokens.scope]


async def main():
    found = {}
    memory = Memory()
    provider = ClientCredentialsOAuthProvider(
        server_url=URL, storage=memory, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, issuer=ISSUER
    )
    found["secret"] = await call(provider, memory)
    memory = Memory()
    with open(os.environ["KEY"]) as file:
        key = file.read()
    signed = SignedJWTParameters(issuer="signer", subject="signer", signing_key=key, signing_algorithm="ES256")
    provider = PrivateKeyJWTOAuthProvider(
        server_url=URL,
        storage=memory,
        client_id="signer",
        assertion_provider=signed.create_assertion_provider(),
        issuer=ISSUER,
    )
    found["key"] = await call(provider, memory)
    tell(**found)


asyncio.run(main())
