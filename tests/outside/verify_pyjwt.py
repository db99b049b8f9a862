"""PyJWT and its client for JWK Sets, with tokens of each algorithm."""

import ssl

import jwt

from surroundings import AUDIENCE, CA, tell_of_each

context = ssl.create_default_context(cafile=CA)


def verify(case, token):
    keys = jwt.PyJWKClient(case["jwks_uri"], ssl_context=context)
    key = keys.get_signing_key_from_jwt(token)
    algorithms = [case["algorithm"]]
    return jwt.decode(token, key, algorithms=algorithms, audience=AUDIENCE, issuer=case["issuer"])["sub"]


tell_of_each(verify, jwt.InvalidSignatureError)
