#!/usr/bin/env python3
"""CPU time per request with a DPoP proof (ES256), beside a bearer token and the verification of a signature by `openssl speed`.

    bench/dpop.py
    bench/dpop.py --rounds 7 --requests 100000

The gateway has one worker on core 0. wrk sends requests from core 1 over TLS, by one token of each kind. The proofs are made before.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from lib import tokens
from lib.load import wrk
from lib.testbed import PORTCULLIS, SERVER_CORE, Testbed, progress, require, run_time

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

# Microseconds that a proof may cost besides its signature.
TARGET = 5
# wrk sends some more requests after it was told to stop.
SPARE = 2000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=50000, help="of each kind in each round")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "nginx", "wrk", "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, os.path.abspath(options.binary))
    try:
        testbed.start_upstream()
        tokens.prepare(testbed, rotating=1)
        sys.exit(0 if measure(testbed, options) else 1)
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def measure(testbed, options):
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    jwk = {"crv": "P-256", "kty": "EC", "x": encode_number(numbers.x), "y": encode_number(numbers.y)}
    bound = bound_token(testbed, jwk)
    # A key of `oauth`, after its clients.
    process, port = testbed.portcullis("full", clients="  dpop: {max_age: 5m}")
    figures = {"bearer": [], "dpop": [], "openssl": []}
    for turn in range(options.rounds):
        progress(f"round {turn + 1} of {options.rounds}")
        figures["bearer"].append(cost(process, lambda: wrk(port, 3, token=testbed.token)))
        script = with_proofs(testbed, key, jwk, bound, options.requests)
        figures["dpop"].append(cost(process, lambda: wrk(port, 60, script=script)))
        figures["openssl"].append(verification())
    progress("")
    bearer, dpop, openssl = (statistics.median(figures[name]) for name in ("bearer", "dpop", "openssl"))
    rest = statistics.median(d - b - o for d, b, o in zip(figures["dpop"], figures["bearer"], figures["openssl"]))
    print(f"{'µs of CPU':24}{'bearer':>10}{'DPoP':>10}{'openssl':>10}{'rest':>8}{'target':>9}")
    print(f"{'per request':24}{bearer:10.1f}{dpop:10.1f}{openssl:10.1f}{rest:8.1f}{'<= %d' % TARGET:>9}")
    return rest <= TARGET


def cost(process, load):
    before = run_time(process)
    done = load()
    return (run_time(process) - before) / done * 1e6


def bound_token(testbed, jwk):
    pem = open(tokens.own_key(testbed, "keys"), "rb").read()
    header, claims, _ = testbed.token.split(".")
    thumbprint = tokens.encode(hashlib.sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()).digest())
    return tokens.signed(pem, tokens.decode(header), tokens.decode(claims), [{"cnf": {"jkt": thumbprint}}])[0]


def with_proofs(testbed, key, jwk, token, count):
    """A script for wrk: each proof once. The host of the requests is `localhost` without a port, as in the other programs."""
    header = tokens.encode(json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}).encode())
    digest = tokens.encode(hashlib.sha256(token.encode()).digest())
    lines, now = [], int(time.time())
    for _ in range(count + SPARE):
        claims = {"jti": os.urandom(12).hex(), "htm": "GET", "htu": "https://localhost/data", "iat": now, "ath": digest}
        text = f"{header}.{tokens.encode(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(SHA256())))
        lines.append(f"{text}.{tokens.encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}\n")
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


def verification():
    """Microseconds of one verification."""
    command = ["taskset", "-c", SERVER_CORE, "openssl", "speed", "-seconds", "1", "ecdsap256"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return 1e6 / float(re.search(r"([\d.]+)\s*$", text.strip()).group(1))


def encode_number(number):
    return tokens.encode(number.to_bytes(32, "big"))


if __name__ == "__main__":
    main()
