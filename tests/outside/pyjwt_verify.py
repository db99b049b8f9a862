"""A service that verifies tokens by itself: PyJWT, from the JWK Set alone."""

import ssl

import jwt

from surroundings import AUDIENCE, CA, ORIGIN, TOKEN, tell

keys = jwt.PyJWKClient(f"{ORIGIN}/.well-known/jwks.json", ssl_context=ssl.create_default_context(cafile=CA))


def verify(token, audience=AUDIENCE):
    key = keys.get_signing_key_from_jwt(token)
    required = ["iss", "sub", "aud", "exp", "iat", "jti"]
    return jwt.decode(
        token, key, algorithms=["RS256"], audience=audience, issuer=ORIGIN, options={"require": required}
    )


def refusal(*arguments):
    try:
        verify(*arguments)
    except jwt.InvalidTokenError as error:
        return type(error).__name__
    return None


head, body, signature = TOKEN.split(".")
changed = f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
tell(
    claims=verify(TOKEN),
    type=jwt.get_unverified_header(TOKEN)["typ"],
    changed=refusal(changed),
    other_audience=refusal(TOKEN, "https://other.example.com"),
)
