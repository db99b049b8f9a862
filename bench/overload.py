#!/usr/bin/env python3
"""Goodput and recovery at ten and a hundred times the connections that saturate one core, beside nginx and HAProxy.

    bench/overload.py
    bench/overload.py --peers nginx HAProxy Envoy
    bench/overload.py --only reconnects

Each server has one worker on core 0. wrk sends from core 1: first over as many connections as saturate the server, then over ten times and a
hundred times as many, which all connect at once and send the next request after any answer. Goodput counts 2xx only. The load is requests
with a token (the peers pass them on without a check), and token requests with RS256, whose cost is the signature. Recovery is the time after
the load until a client gets its answers in the usual time.

`reconnects`: one address, which has all the connections that it may have, reconnects as fast as it can. A client at another address sends a
hundred requests a second over its own connection. Its 99th percentile is compared with the one of a quiet gateway.
"""

import argparse
import http.client
import math
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

from lib import peers
from lib.load import goodput, grant_script
from lib.testbed import LOAD_CORE, PORTCULLIS, SECRET, SERVER_CORE, UPSTREAM, Testbed, grant, progress, require

PORT = 9114
SATURATING = 32
# The target, as a part of the best goodput, for each multiple of the connections. The peers show how much of it remains
# under the load.
TARGETS = {1: 1, 10: 0.8, 100: 0.45}
RECOVERY = 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1, help="the number of rounds, of which the median is taken")
    parser.add_argument("--peers", nargs="*", default=["nginx", "HAProxy"], choices=peers.PEERS, metavar="PEER")
    parser.add_argument("--only", choices=("goodput", "reconnects"))
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "nginx", "haproxy", "wrk", "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    missed = False
    try:
        testbed.start_upstream()
        if options.only != "reconnects":
            missed |= compare_goodput(testbed, options)
        if options.only != "goodput":
            missed |= reconnects(testbed, options)
        progress("")
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if missed else 0)


def compare_goodput(testbed, options):
    """Prints a line for each server, load and number of connections. Returns true if a target was missed."""
    print(f"{'':12}{'':10}{'connections':>12}{'served/s':>10}{'refused/s':>11}{'goodput':>9}{'target':>9}{'recovery':>10}{'target':>9}")
    missed = False
    for name in ("portcullis", *options.peers):
        ours = name == "portcullis"
        for load in (requests, grants) if ours else (requests,):
            rounds = [[measure(testbed, name, load, times, options.seconds) for times in TARGETS] for _ in range(options.rounds)]
            for number, (times, target) in enumerate(TARGETS.items()):
                served, refused, recovery = (statistics.median(each[number][what] for each in rounds) for what in range(3))
                goodput = statistics.median(each[number][0] / each[0][0] for each in rounds)
                missed |= ours and (goodput < target or recovery > RECOVERY)
                wanted = (f">= {target:.2f}", f"<= {RECOVERY} s") if ours and times > 1 else ("", "")
                print(f"{name:12}{load.__name__:10}{SATURATING * times:12}{served:10.0f}{refused:11.0f}{goodput:9.2f}{wanted[0]:>9}{recovery:8.2f} s{wanted[1]:>9}", flush=True)
    return missed


def measure(testbed, name, load, times, seconds):
    """Starts a server for each measurement, so that none inherits the state of the last."""
    progress(f"{name}, {load.__name__}, {SATURATING * times} connections")
    process, port = start(testbed) if name == "portcullis" else peers.start(testbed, name)
    try:
        served, refused = load(testbed, port, SATURATING * times, seconds)
        return served, refused, recover(port, "/.well-known/jwks.json" if name == "portcullis" else "/")
    finally:
        testbed.stop(process)


def start(testbed, limits="connections_per_address: unlimited"):
    folder = testbed.path("gateway")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{PORT}
    tls: {{certificates: [{{cert: {testbed.crt}, key: {testbed.key}}}]}}
allow_literal_secrets: true
limits: {{{limits}}}
oauth:
  issuer: https://localhost:{PORT}
  audiences: [https://api.example.com]
  token_endpoint: {{rate_limits: [{{rate: 1000000/s, per: address}}]}}
  clients:
    bench: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
upstreams: {{legacy: "http://127.0.0.1:{UPSTREAM}"}}
routes: [{{path: /**, upstream: legacy, access: {{scopes: [read:data]}}}}]
audit: {{file: audit.jsonl}}
""")
    return testbed.run(SERVER_CORE, [testbed.binary, "run"], PORT, cwd=folder), PORT


def requests(testbed, port, connections, seconds):
    token = ["-H", f"Authorization: Bearer {grant(PORT)}"] if port == PORT else []
    return goodput(port, connections, seconds, token, "/data")


def grants(testbed, port, connections, seconds):
    script = grant_script(testbed)
    return goodput(port, connections, seconds, ["-s", script], "/oauth/token")


def recover(port, path):
    """Seconds until ten answers in a row take less than 50 ms each."""
    began, swift, client = time.monotonic(), 0, Client(port, path)
    while swift < 10 and time.monotonic() - began < 30:
        took = client.ask()
        swift = swift + 1 if took and took < 0.05 else 0
    return time.monotonic() - began


class Client:
    """A client with one connection, which it opens again after a failure."""

    def __init__(self, port, path, address="127.0.0.1"):
        self.port, self.path, self.address, self.connection = port, path, address, None
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def ask(self):
        """Seconds until the answer, or `None` if there is none."""
        asked = time.monotonic()
        try:
            self.connection = self.connection or http.client.HTTPSConnection(
                "127.0.0.1", self.port, context=self.context, timeout=5, source_address=(self.address, 0))
            self.connection.request("GET", self.path)
            return time.monotonic() - asked if self.connection.getresponse().read() else None
        except (OSError, http.client.HTTPException):
            self.connection = None
            return None


def reconnects(testbed, options):
    process, port = start(testbed, "connections_per_address: 8, handshake_timeout: 1h")
    # The connection that checked that the gateway is ready is still counted for a moment.
    time.sleep(0.5)
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    client = Client(port, "/.well-known/jwks.json", "127.0.0.2")
    quiet = canary(client, options.seconds)
    script = f"""
import socket, time
end, count = time.monotonic() + {options.seconds} + 1, 0
while time.monotonic() < end:
    try:
        with socket.create_connection(("127.0.0.1", {port}), 1) as connection: connection.recv(1)
    except OSError: pass
    count += 1
print(count)"""
    storm = subprocess.Popen(["taskset", "-c", LOAD_CORE, sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    beside = canary(client, options.seconds)
    count = int(storm.communicate()[0])
    [connection.close() for connection in held]
    testbed.stop(process)
    print(f"reconnects: {count / (options.seconds + 1):.0f} refused/s; p99 of another address {quiet * 1000:.2f} ms alone, {beside * 1000:.2f} ms beside it"
          f" ({beside / quiet:.2f} x, target <= 2)")
    return beside > 2 * quiet


def canary(client, seconds):
    """The 99th percentile, in seconds, of a hundred requests a second. A request without an answer counts as infinite."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        took.append(client.ask() or math.inf)
        time.sleep(0.01)
    return sorted(took)[len(took) * 99 // 100]


if __name__ == "__main__":
    main()
