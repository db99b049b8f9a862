#!/usr/bin/env python3
"""Tokens granted per CPU-second, beside what `openssl speed` signs on the same core.

    bench/grants.py
    bench/grants.py --rounds 7 --seconds 5

The gateway has one worker on core 0, where its signatures run too; wrk asks from core 1 over TLS with Basic credentials. Before each round
`openssl speed` signs on core 0. Needs wrk, openssl, taskset and a release build.
"""

import argparse
import base64
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from load import wrk
from world import PORTCULLIS, SECRET, SERVER_CORE, World, progress, require, run_time

ALGORITHMS = {"RS256": ("rsa2048", 0.85), "ES256": ("ecdsap256", 0.35)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary)
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    world = World(folder, options.binary)
    missed = False
    try:
        print(f"{'':8}{'grants per CPU-second':>24}{'openssl signs/s':>18}{'ratio':>8}{'target':>9}")
        for algorithm, (name, target) in ALGORITHMS.items():
            granted, signed = measure(world, options, algorithm, name)
            ratio = statistics.median(grants / signs for grants, signs in zip(granted, signed))
            print(f"{algorithm:8}{statistics.median(granted):24.0f}{statistics.median(signed):18.0f}{ratio:8.2f}{'>= %.2f' % target:>9}")
            missed |= ratio < target
    finally:
        world.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if missed else 0)


def measure(world, options, algorithm, name):
    port = 9110 + list(ALGORITHMS).index(algorithm)
    folder = world.path(algorithm)
    os.makedirs(folder)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: {world.crt}, key: {world.key}}}]}}
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
    basic = base64.b64encode(f"bench:{SECRET}".encode()).decode()
    script = world.write("grant.lua", f"""
        wrk.method, wrk.body = "POST", "grant_type=client_credentials"
        wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
        wrk.headers["Authorization"] = "Basic {basic}" """)
    process = world.run(SERVER_CORE, [world.binary, "run"], port, cwd=folder)
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
    world.stop(process)
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
