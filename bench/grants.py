#!/usr/bin/env python3
"""Tokens granted per CPU-second, beside the signatures per second of `openssl speed` on the same core; then those of clients with assertions
(`private_key_jwt`, ES256, each good for one request), beside those of clients with secrets.

    bench/grants.py
    bench/grants.py --rounds 7 --seconds 5

The gateway has one worker on core 0, where its signatures run too. wrk sends token requests from core 1 over TLS with Basic credentials.
Before each round `openssl speed` signs on core 0.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from lib.assertions import ClientKey, script
from lib.load import grant_script, wrk
from lib.testbed import PORTCULLIS, SERVER_CORE, Testbed, progress, require, run_time

ALGORITHMS = {"RS256": ("rsa2048", 0.85), "ES256": ("ecdsap256", 0.35)}
ASSERTIONS_TARGET = 0.8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--binary", default=PORTCULLIS)
    parser.add_argument("--most-grants", type=int, default=8000, help="more than the gateway grants per second: as many assertions are made")
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
        by_secret, by_assertion = measure_assertions(testbed, options)
        ratio = statistics.median(one / other for one, other in zip(by_assertion, by_secret))
        print(f"{'':8}{'by assertion':>24}{'by secret':>18}{'ratio':>8}{'target':>9}")
        print(f"{'RS256':8}{statistics.median(by_assertion):24.0f}{statistics.median(by_secret):18.0f}{ratio:8.2f}{'>= %.2f' % ASSERTIONS_TARGET:>9}")
        missed |= ratio < ASSERTIONS_TARGET
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if missed else 0)


def ask(port, seconds, lua):
    return wrk(port, seconds, connections=32, script=lua, path="/oauth/token")


def measure(testbed, options, algorithm, name):
    port = 9110 + list(ALGORITHMS).index(algorithm)
    lua = grant_script(testbed)
    process = testbed.authorization_server(port, algorithm)
    ask(port, 1, lua)
    granted, signed = [], []
    for number in range(options.rounds):
        signed.append(openssl(name))
        granted.append(per_cpu_second(process, lambda: ask(port, options.seconds, lua)))
        progress(f"{algorithm} round {number + 1}/{options.rounds}: {granted[-1]:.0f} grants, {signed[-1]:.0f} signatures per CPU-second")
    progress("")
    testbed.stop(process)
    return granted, signed


def measure_assertions(testbed, options):
    """Grants per CPU-second by secret and by assertion, alternately."""
    port, key, lua = 9112, ClientKey(), grant_script(testbed)
    process = testbed.authorization_server(port, "RS256", f"    keyed: {{keys: [{{jwk: {json.dumps(key.jwk())}}}], scopes: [read:data]}}")
    by_secret, by_assertion = [], []
    for number in range(options.rounds):
        assertions = key.assertions("keyed", f"https://localhost:{port}", options.most_grants * (options.seconds + 1))
        keyed = script(testbed, "keyed", assertions)
        by_secret.append(per_cpu_second(process, lambda: ask(port, options.seconds, lua)))
        by_assertion.append(per_cpu_second(process, lambda: ask(port, options.seconds, keyed)))
        progress(f"assertions round {number + 1}/{options.rounds}: {by_assertion[-1]:.0f}, by secret {by_secret[-1]:.0f} grants per CPU-second")
    progress("")
    testbed.stop(process)
    return by_secret, by_assertion


def per_cpu_second(process, load):
    before = run_time(process)
    return load() / (run_time(process) - before)


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
