"""Tokens that are bound to a key, and DPoP proofs of the key: each for one request."""

import hashlib
import json
import os
import time

from lib import tokens

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

# wrk sends some more requests after it was told to stop.
SPARE = 2000


class ProofKey:
    """A key for ES256, with its public JWK."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        numbers = self.key.public_key().public_numbers()
        self.jwk = {"crv": "P-256", "kty": "EC", "x": encode_number(numbers.x), "y": encode_number(numbers.y)}

    def thumbprint(self):
        text = json.dumps(self.jwk, separators=(",", ":"), sort_keys=True)
        return tokens.encode(hashlib.sha256(text.encode()).digest())

    def sign(self, text):
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(SHA256())))
        return tokens.encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def encode_number(number):
    return tokens.encode(number.to_bytes(32, "big"))


def bound_token(testbed, confirmation):
    """A token of the gateway with this `cnf`."""
    pem = open(tokens.own_key(testbed, "keys"), "rb").read()
    header, claims, _ = testbed.token.split(".")
    return tokens.signed(pem, tokens.decode(header), tokens.decode(claims), [{"cnf": confirmation}])[0]


def with_proofs(testbed, key, token, count):
    """A script for wrk: each proof once. The host of the requests is `localhost` without a port, as in the other programs."""
    header = tokens.encode(json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.jwk}).encode())
    digest = tokens.encode(hashlib.sha256(token.encode()).digest())
    lines, now = [], int(time.time())
    for _ in range(count + SPARE):
        claims = {"jti": os.urandom(12).hex(), "htm": "GET", "htu": "https://localhost/data", "iat": now, "ath": digest}
        text = f"{header}.{tokens.encode(json.dumps(claims).encode())}"
        lines.append(f"{text}.{key.sign(text)}\n")
    file = testbed.write("proofs", "".join(lines))
    return testbed.write("proofs.lua", f"""
        local proofs, sent = nil, 0
        local before = "GET /data HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: DPoP {token}\\r\\nDPoP: "
        function init() proofs = io.open("{file}") end
        function request()
          sent = sent + 1
          if sent == {count} then wrk.thread:stop() end
          return before .. (proofs:read() or "") .. "\\r\\n\\r\\n"
        end""")
