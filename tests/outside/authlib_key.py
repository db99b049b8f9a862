"""Authlib's session, authenticated by a private key. Its assertions name the token endpoint, and an hour."""

import os

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey

from surroundings import ORIGIN, tell

ENDPOINT = f"{ORIGIN}/oauth/token"


def session(key):
    client = OAuth2Session("signer", key, scope="read:data", token_endpoint_auth_method="private_key_jwt")
    client.register_client_auth_method(PrivateKeyJWT(ENDPOINT, alg="ES256"))
    return client


def refusal(key):
    try:
        session(key).fetch_token(ENDPOINT, grant_type="client_credentials")
    except OAuthError as error:
        return error.error
    return None


with open(os.environ["KEY"]) as file:
    own = ECKey.import_key(file.read())
client = session(own)
# Twice: each assertion is a new one.
scopes = [client.fetch_token(ENDPOINT, grant_type="client_credentials")["scope"] for _ in range(2)]
tell(scopes=scopes, data=client.get(f"{ORIGIN}/data").status_code, other_key=refusal(ECKey.generate_key("P-256")))
