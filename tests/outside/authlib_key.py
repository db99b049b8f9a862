"""Authlib's session, authenticated by a private key. Its assertions are for the token endpoint.

By itself it makes assertions of an hour. Given an `exp`, it gives all assertions of one method the same `jti`; so each
token gets a method of its own.
"""

import os
import time

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey

from surroundings import ORIGIN, tell

ENDPOINT = f"{ORIGIN}/oauth/token"


def session(key):
    return OAuth2Session("signer", key, scope="read:data", token_endpoint_auth_method="private_key_jwt")


def fetch(client, lifetime=60):
    claims = {"exp": int(time.time()) + lifetime}
    client.register_client_auth_method(PrivateKeyJWT(ENDPOINT, alg="ES256", claims=claims))
    return client.fetch_token(ENDPOINT, grant_type="client_credentials")


def refusal(key, lifetime=60):
    try:
        fetch(session(key), lifetime)
    except OAuthError as error:
        return error.error
    return None


with open(os.environ["KEY"]) as file:
    own = ECKey.import_key(file.read())
client = session(own)
scopes = [fetch(client)["scope"] for _ in range(2)]
tell(
    scopes=scopes,
    data=client.get(f"{ORIGIN}/data").status_code,
    an_hour=refusal(own, 3600),
    other_key=refusal(ECKey.generate_key("P-256")),
)
