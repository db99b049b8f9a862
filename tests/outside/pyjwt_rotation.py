"""A service that verifies tokens while the gateway rotates its keys: PyJWT's own client for JWK Sets, kept all along."""

import os
import ssl
import subprocess
import time
import urllib.parse
import urllib.request

import jwt

from surroundings import AUDIENCE, CA, CLIENT_ID, CLIENT_SECRET, ORIGIN, tell

context = ssl.create_default_context(cafile=CA)
# By default it looks again after half a minute at the earliest, for which a test does not wait.
keys = jwt.PyJWKClient(f"{ORIGIN}/.well-known/jwks.json", ssl_context=context, cooldown_duration=0)


def token():
    form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    body = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"{ORIGIN}/oauth/token", body, context=context) as answer:
        return jwt.api_jws.json.load(answer)["access_token"]


def verified(text):
    key = keys.get_signing_key_from_jwt(text)
    return jwt.decode(text, key, algorithms=["RS256"], audience=AUDIENCE, issuer=ORIGIN)["sub"]


def kid(text):
    return jwt.get_unverified_header(text)["kid"]


def rotate(*how):
    subprocess.run([os.environ["PORTCULLIS"], "keys", "rotate", *how], cwd=os.environ["FOLDER"], check=True, stdout=2)


def token_by_another_key(old):
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if kid(new := token()) != kid(old):
            return new
    raise SystemExit("the key does not change")


before = token()
found = {"before": verified(before)}
rotate()
during = token()
found["during"] = [verified(before), verified(during)]
rotate("--now")
after = token_by_another_key(during)
found["after"] = [verified(before), verified(during), verified(after)]
tell(**found)
