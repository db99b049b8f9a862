"""joserfc, with tokens of each algorithm."""

import requests
from joserfc import errors, jwt
from joserfc.jwk import KeySet

from surroundings import AUDIENCE, tell_of_each


def verify(case, token):
    keys = KeySet.import_key_set(requests.get(case["jwks_uri"], timeout=10).json())
    decoded = jwt.decode(token, keys, algorithms=[case["algorithm"]])
    essential = {"essential": True}
    jwt.JWTClaimsRegistry(iss={**essential, "value": case["issuer"]}, aud={**essential, "value": AUDIENCE}).validate(
        decoded.claims
    )
    return decoded.claims["sub"]


tell_of_each(verify, errors.BadSignatureError)
