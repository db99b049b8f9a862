"""RS256 by hand: `n` and `e` of the JWK Set, one power, and the padding of RFC 8017 §9.2 byte by byte. No packages."""

import base64
import hashlib
import json
import ssl
import urllib.request

from surroundings import CA, ORIGIN, TOKEN, tell

# RFC 8017 §9.2, note 1.
SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(text):
    return int.from_bytes(decode(text), "big")


def holds(token, key):
    head, body, signature = token.split(".")
    n, e = number(key["n"]), number(key["e"])
    size = (n.bit_length() + 7) // 8
    signature = decode(signature)
    if len(signature) != size or int.from_bytes(signature, "big") >= n:
        return False
    message = pow(int.from_bytes(signature, "big"), e, n).to_bytes(size, "big")
    tail = SHA256_PREFIX + hashlib.sha256(f"{head}.{body}".encode()).digest()
    return message == b"\x00\x01" + b"\xff" * (size - len(tail) - 3) + b"\x00" + tail


def thumbprint(key):
    """RFC 7638."""
    members = json.dumps({name: key[name] for name in ("e", "kty", "n")}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()


context = ssl.create_default_context(cafile=CA)
with urllib.request.urlopen(f"{ORIGIN}/.well-known/jwks.json", context=context) as answer:
    keys = {key["kid"]: key for key in json.load(answer)["keys"]}
header = json.loads(decode(TOKEN.split(".")[0]))
key = keys[header["kid"]]
head, body, signature = TOKEN.split(".")
claims = json.loads(decode(body))
forged = base64.urlsafe_b64encode(json.dumps({**claims, "scope": "admin:all"}).encode()).rstrip(b"=").decode()
tell(
    header=header,
    claims=claims,
    bits=number(key["n"]).bit_length(),
    members=sorted(key),
    thumbprint_is_kid=thumbprint(key) == header["kid"],
    holds=holds(TOKEN, key),
    forged_holds=holds(f"{head}.{forged}.{signature}", key),
)
