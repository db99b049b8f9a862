#!/usr/bin/env python3
"""The response time of the token endpoint does not reveal which clients exist.

    tests/adversarial/secret_timing.py                          100,000 pairs for sha256, 1,000 for argon2id
    tests/adversarial/secret_timing.py --short --binary PATH

Sends token requests with the id of an unknown client and with a wrong secret of a known one, in random order on one connection, and compares
the times by Welch's t. |t| of 4.5 or more is a leak, as in side-channel evaluations; then the exit code is 1. t over all requests and over
the fastest 90 %, which leaves out noise from elsewhere, must both pass. `mean` is over the fastest 90 %.

Every request has another address, from a trusted proxy, because ten failures in a row would begin a back-off. The gateway keeps 65,536 pairs
that failed within ten minutes: beyond about 500,000 requests in that time, new pairs would be in back-off at once. Unknown ids are new at
every request, and as long as the known one. Every kind of hash has its own gateway, because an unknown client costs what a known one does.
"""

import argparse
import base64
import math
import os
import random
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

from lib.testbed import PORTCULLIS, require

PORT = 9107
TARGET = 4.5
PAIRS = {"sha256": 100_000, "argon2id": 1_000}
SHORT = {"sha256": 4_000, "argon2id": 150}
KNOWN = "known-client"
SECRET = "correct horse battery staple"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=PORTCULLIS)
    parser.add_argument("--short", action="store_true", help="fewer pairs")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    require(options.binary, "openssl")
    random.seed(options.seed)
    print(f"{'hash':10} {'pairs':>7} {'unknown client':>15} {'wrong secret':>13} {'|t|':>6} {'|t| of 90 %':>12}   target")
    missed = False
    for kind, pairs in (SHORT if options.short else PAIRS).items():
        unknown, wrong = measure(options.binary, kind, pairs)
        all_of_it = abs(welch(unknown, wrong))
        # One bound for both samples: otherwise the trimming itself would cause a difference.
        bound = sorted(unknown + wrong)[int(len(unknown + wrong) * 0.9)]
        fast = [[x for x in times if x <= bound] for times in (unknown, wrong)]
        trimmed = abs(welch(*fast))
        ok = all_of_it < TARGET and trimmed < TARGET
        missed |= not ok
        means = [f"{statistics.fmean(times) * 1e6:.1f} µs" for times in fast]
        print(f"{kind:10} {pairs:7} {means[0]:>15} {means[1]:>13} {all_of_it:6.2f} {trimmed:12.2f}   < {TARGET}  {'ok' if ok else 'MISSED'}", flush=True)
    sys.exit(1 if missed else 0)


def welch(a, b):
    """Welch's t of two samples."""
    error = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return (statistics.fmean(a) - statistics.fmean(b)) / math.sqrt(error)


def measure(gateway, kind, pairs):
    """Seconds for each request, of an unknown client and of a wrong secret."""
    folder = tempfile.mkdtemp(prefix="portcullis-timing-")
    process = None
    try:
        process, connection = start(gateway, folder, kind)
        for _ in range(50):
            ask(connection, KNOWN, wrong_secret())
        times = ([], [])
        for _ in range(pairs):
            order = [0, 1]
            random.shuffle(order)
            for which in order:
                # An unknown id is made before either request, so that the gateway is idle for the same time before each.
                client = (unknown_client(), KNOWN)[which]
                times[which].append(ask(connection, client, wrong_secret()))
        return times
    finally:
        if process:
            process.send_signal(signal.SIGTERM)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def start(gateway, folder, kind):
    crt, key = os.path.join(folder, "tls.crt"), os.path.join(folder, "tls.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", key, "-out", crt], check=True, capture_output=True)
    os.chmod(key, 0o600)
    if kind == "sha256":
        secret = f"{{value: {SECRET}}}"
    else:
        made = subprocess.run([gateway, "client", "hash"], input=SECRET, capture_output=True, text=True, check=True)
        secret = f"{{hash: '{made.stdout.strip()}'}}"
    # The limit is far above the rate of one connection.
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
allow_literal_secrets: true
trusted_proxies: [127.0.0.0/8]
limits: {{in_flight_per_address: unlimited}}
audit: {{file: audit.jsonl, sync: none}}
listeners:
  - address: 127.0.0.1:{PORT}
    tls: {{certificates: [{{cert: {crt}, key: {key}}}]}}
oauth:
  issuer: https://localhost:{PORT}
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256}}
  token_endpoint: {{rate_limits: [{{rate: 1000000/s, per: address}}]}}
  clients:
    {KNOWN}: {{secrets: [{secret}], scopes: [a]}}
    other-client: {{secrets: [{secret}], scopes: [a]}}
""")
    process = subprocess.Popen([gateway, "run"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    began = time.monotonic()
    while True:
        try:
            plain = socket.create_connection(("127.0.0.1", PORT))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return process, context.wrap_socket(plain, server_hostname="localhost")
        except OSError:
            if process.poll() is not None or time.monotonic() - began > 30:
                sys.exit("the gateway did not start")
            time.sleep(0.01)


def unknown_client():
    return "x" + "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=len(KNOWN) - 1))


def wrong_secret():
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=len(SECRET)))


def ask(connection, client, secret):
    """Seconds from the request to the end of its answer, which must be 401."""
    credentials = base64.b64encode(f"{client}:{secret}".encode()).decode()
    body = "grant_type=client_credentials"
    request = (
        f"POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n"
        f"X-Forwarded-For: {random.randint(11, 200)}.{random.randint(0, 255)}.{random.randint(0, 255)}.{random.randint(1, 254)}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    began = time.perf_counter()
    connection.sendall(request)
    answer = connection.recv(65536)
    took = time.perf_counter() - began
    head, _, rest = answer.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(rest) < length:
        rest += connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 401"):
        sys.exit(f"not 401: {head.decode(errors='replace')}")
    return took


if __name__ == "__main__":
    main()
