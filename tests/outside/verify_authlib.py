"""Authlib: its validator of access tokens as RFC 9068 has them, with tokens of each algorithm."""

import warnings

import requests

warnings.filterwarnings("ignore", category=DeprecationWarning)

from authlib.jose import JsonWebKey, JsonWebToken  # noqa: E402
from authlib.jose.errors import BadSignatureError  # noqa: E402
from authlib.oauth2.rfc9068.claims import JWTAccessTokenClaims  # noqa: E402

from surroundings import AUDIENCE, tell_of_each  # noqa: E402


def verify(case, token):
    keys = JsonWebKey.import_key_set(requests.get(case["jwks_uri"], timeout=10).json())
    essential = {"essential": True}
    options = {
        "iss": {**essential, "value": case["issuer"]},
        "aud": {**essential, "value": AUDIENCE},
        **{name: essential for name in ("exp", "sub", "client_id", "iat", "jti")},
    }
    decoder = JsonWebToken([case["algorithm"]])
    claims = decoder.decode(token, keys, claims_cls=JWTAccessTokenClaims, claims_options=options)
    claims.validate()
    return claims["sub"]


tell_of_each(verify, BadSignatureError)
