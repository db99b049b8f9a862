#!/usr/bin/env python3
"""Tokens granted per CPU-second, beside the signatures per second of `openssl speed` on the same core.

    bench/grants.py
    bench/grants.py --rounds 7 --seconds 5

The gateway has one worker on core 0, where its signatures run too. wrk sends token requests from core 1 over TLS with Basic credentials.
Before each round `openssl speed` signs on core 0.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from lib.load import grant_script, wrk
from lib.testbed import PORTCULLIS, SECRET, SERVER_CORE, Testbed, progress, require, run_time

ALGORITHMS = {"RS256": ("rsa2048", 0.85), "ES256": ("ecdsap256", 0.35)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "wrk", "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    missed = False
    try:
        print(f"{'':8}{'grants per CPU-second':>24}{'openssl signs/s':>18}{'ratio':>8}{'target':>9}")
        for algorithm, (name, target) in ALGORITHMS.items():
            granted, signed = measure(testbed, options, algorithm, name)
            ratio = statistics.median(grants / signs for grants, signs in zip(granted, signed))
            print(f"{algorithm:8}{statistics.median(granted):24.0f}{statistics.median(signed):18.0f}{ratio:8.2f}{'>= %.2f' % target:>9}")
            missed |= ratio < target
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if missed else 0)


def measure(testbed, options, algorithm, name):
    port = 9110 + list(ALGORITHMS).index(algorithm)
    folder = testbed.path(algorithm)
    os.makedirs(folder)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: {testbed.crt}, key: {testbed.key}}}]}}
allow_literal_secrets: true
oauth:
  issuer: https://localhost:{port}
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: {algorithm}}}
  token_endpoint: {{rate_limits: [{{rate: 1000000/s, per: address}}]}}
  clients:
    bench: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
upstreams: {{none: "http://127.0.0.1:1"}}
routes: [{{path: /**, upstream: none, access: {{}}}}]
""")
    script = grant_script(testbed)
    process = testbed.run(SERVER_CORE, [testbed.binary, "run"], port, cwd=folder)
    ask = lambda seconds: wrk(port, seconds, connections=32, script=script, path="/oauth/token")
    ask(1)
    granted, signed = [], []
    for number in range(options.rounds):
        signed.append(openssl(name))
        before = run_time(process)
        grants = ask(options.seconds)
        granted.append(grants / (run_time(process) - before))
        progress(f"{algorithm} round {number + 1}/{options.rounds}: {granted[-1]:.0f} grants, {signed[-1]:.0f} signatures per CPU-second")
    progress("")
    testbed.stop(process)
    return granted, signed


def openssl(name):
    """Signatures per second of one core."""
    command = ["taskset", "-c", SERVER_CORE, "openssl", "speed", "-mr", "-seconds", "2", name]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # `+F2` is RSA, `+F4` ECDSA: number, bits, seconds a signature, seconds a verification.
    line = re.search(r"^\+F[24]:\d+:(\d+):([\d.e-]+):", text, re.MULTILINE)
    if not line:
        sys.exit(f"not understood:\n{text}")
    value = float(line.group(2))
    return value if value > 1 else 1 / value


if __name__ == "__main__":
    main()
