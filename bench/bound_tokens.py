#!/usr/bin/env python3
"""CPU time per request with bound tokens, beside a bearer token.

    bench/bound_tokens.py
    bench/bound_tokens.py --rounds 7 --requests 100000

The gateway has one worker on core 0, the load comes from core 1 over TLS. DPoP proofs (ES256) are made before, and one is beside the
verification of a signature by `openssl speed`. Only `ab` sends a client certificate, so both rows of mutual TLS are by `ab`.
"""

import argparse
import hashlib
import os
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile

from lib import tokens
from lib.load import output_of, wrk
from lib.proofs import ProofKey, bound_token, with_proofs
from lib.testbed import LOAD_CORE, PORTCULLIS, SERVER_CORE, Testbed, progress, require, run_time

# Microseconds that a proof may cost besides its signature.
TARGET = 5
# A request with a token that is bound to a certificate, to one with a bearer token.
TARGET_CERTIFICATE = 1.05


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=50000, help="of each kind in each round")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "nginx", "wrk", "ab", "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, os.path.abspath(options.binary))
    try:
        testbed.start_upstream()
        tokens.prepare(testbed, rotating=1)
        met = [measure_proofs(testbed, options), measure_certificates(testbed, options)]
        sys.exit(0 if all(met) else 1)
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def measure_proofs(testbed, options):
    key = ProofKey()
    bound = bound_token(testbed, {"jkt": key.thumbprint()})
    # A key of `oauth`, after its clients.
    process, port = testbed.portcullis("full", clients="  dpop: {max_age: 5m}")
    figures = {"bearer": [], "dpop": [], "openssl": []}
    for turn in range(options.rounds):
        progress(f"DPoP: round {turn + 1} of {options.rounds}")
        figures["bearer"].append(cost(process, lambda: wrk(port, 3, token=testbed.token)))
        script = with_proofs(testbed, key, bound, options.requests)
        figures["dpop"].append(cost(process, lambda: wrk(port, 60, script=script)))
        figures["openssl"].append(verification())
    progress("")
    testbed.stop(process)
    bearer, dpop, openssl = (statistics.median(figures[name]) for name in ("bearer", "dpop", "openssl"))
    rest = statistics.median(d - b - o for d, b, o in zip(figures["dpop"], figures["bearer"], figures["openssl"]))
    print(f"{'µs of CPU':24}{'bearer':>10}{'DPoP':>10}{'openssl':>10}{'rest':>8}{'target':>9}")
    print(f"{'per request':24}{bearer:10.1f}{dpop:10.1f}{openssl:10.1f}{rest:8.1f}{'<= %d' % TARGET:>9}")
    return rest <= TARGET


def measure_certificates(testbed, options):
    certificate = client_certificate(testbed)
    der = ssl.PEM_cert_to_DER_cert(open(testbed.path("client.crt")).read())
    bound = bound_token(testbed, {"x5t#S256": tokens.encode(hashlib.sha256(der).digest())})
    process, port = testbed.portcullis("full", client_ca=testbed.path("clients.crt"))
    figures = {"bearer": [], "bound": []}
    for turn in range(options.rounds):
        progress(f"mutual TLS: round {turn + 1} of {options.rounds}")
        for name, token in (("bearer", testbed.token), ("bound", bound)):
            figures[name].append(cost(process, lambda: by_ab(port, token, certificate, options.requests)))
    progress("")
    testbed.stop(process)
    bearer, bound = (statistics.median(figures[name]) for name in ("bearer", "bound"))
    ratio = statistics.median(b / a for a, b in zip(figures["bearer"], figures["bound"]))
    print(f"{'µs of CPU':24}{'bearer':>10}{'bound':>10}{'':10}{'ratio':>8}{'target':>9}")
    print(f"{'by certificate':24}{bearer:10.1f}{bound:10.1f}{'':10}{ratio:8.2f}{'<= %.2f' % TARGET_CERTIFICATE:>9}")
    return ratio <= TARGET_CERTIFICATE


def client_certificate(testbed):
    """A certificate for clients and its key, in one file, as `ab` reads them. Its authority is in `clients.crt`."""
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority = ["-x509", *new_key, "-days", "30", "-subj", "/CN=clients", "-keyout", testbed.path("clients.key"), "-out", testbed.path("clients.crt")]
    request = [*new_key, "-subj", "/CN=bench", "-keyout", testbed.path("client.key"), "-out", testbed.path("client.csr")]
    by_authority = ["-CA", testbed.path("clients.crt"), "-CAkey", testbed.path("clients.key"), "-CAcreateserial", "-days", "30"]
    extensions = testbed.write("client.ext", "extendedKeyUsage=clientAuth\nsubjectAltName=DNS:bench.example.com\n")
    signed = ["-req", "-in", testbed.path("client.csr"), *by_authority, "-extfile", extensions, "-out", testbed.path("client.crt")]
    for command in (["req", *authority], ["req", "-new", *request], ["x509", *signed]):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return testbed.write("client.pem", open(testbed.path("client.crt")).read() + open(testbed.path("client.key")).read())


def by_ab(port, token, certificate, requests):
    command = ["taskset", "-c", LOAD_CORE, "ab", "-q", "-k", "-c16", f"-n{requests}", "-E", certificate, "-H", f"Authorization: Bearer {token}"]
    text = output_of([*command, f"https://localhost:{port}/data"])
    failed = re.search(r"Failed requests:\s+(\d+)", text)
    if "Non-2xx responses" in text or not failed or failed.group(1) != "0":
        sys.exit(f"answers other than 2xx:\n{text}")
    return requests


def cost(process, load):
    before = run_time(process)
    done = load()
    return (run_time(process) - before) / done * 1e6


def verification():
    """Microseconds of one verification."""
    command = ["taskset", "-c", SERVER_CORE, "openssl", "speed", "-seconds", "1", "ecdsap256"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return 1e6 / float(re.search(r"([\d.]+)\s*$", text.strip()).group(1))


if __name__ == "__main__":
    main()
