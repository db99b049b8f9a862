#!/usr/bin/env python3
"""Ten and a hundred times what one core can serve: how much of its best it still serves, beside nginx and HAProxy in the same run, and how
soon afterwards all is as before.

    bench/overload.py
    bench/overload.py --peers nginx HAProxy Envoy
    bench/overload.py --only hammer

Each server has one worker on core 0. wrk asks from core 1, first over as many connections as saturate it, then over ten times and a
hundred times as many, all of which connect at once, at once asking again whatever the answer was: goodput counts 2xx only. Requests with a
token (the peers pass them on without a look), and grants with RS256, whose signatures are what the core spends its time on. Recovery is how
long after the load a client waits for answers in its usual time.

`hammer`: one address, which has all the connections that it may have, reconnects as fast as it can; a client at another address asks a
hundred times a second over its own connection, and its 99th percentile is compared with that of quiet times.

Needs nginx, haproxy, wrk, openssl, taskset and a release build.
"""

import argparse
import base64
import http.client
import math
import os
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

import peers
from world import LOAD_CORE, PORTCULLIS, SECRET, SERVER_CORE, UPSTREAM, World, grant, progress, require

PORT = 9114
SATURATING = 32
# Of the best, at so many times the connections. The peers show what the load leaves of it.
TARGETS = {1: 1, 10: 0.8, 100: 0.45}
RECOVERY = 1
TOOLS = ("nginx", "haproxy", "wrk", "openssl", "taskset")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1, help="the median counts")
    parser.add_argument("--peers", nargs="*", default=["nginx", "HAProxy"], choices=peers.PEERS, metavar="PEER")
    parser.add_argument("--only", choices=("crowd", "hammer"))
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, TOOLS)
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    world = World(folder, options.binary)
    missed = False
    try:
        world.start_upstream()
        if options.only != "hammer":
            missed |= crowd(world, options)
        if options.only != "crowd":
            missed |= hammer(world, options)
        progress("")
    finally:
        world.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if missed else 0)


def crowd(world, options):
    """Prints a line for each server, load and number of connections; true where a target was missed."""
    print(f"{'':12}{'':10}{'connections':>12}{'served/s':>10}{'refused/s':>11}{'goodput':>9}{'target':>9}{'recovery':>10}{'target':>9}")
    missed = False
    for name in ("portcullis", *options.peers):
        ours = name == "portcullis"
        for load in (requests, grants) if ours else (requests,):
            rounds = [[measure(world, name, load, times, options.seconds) for times in TARGETS] for _ in range(options.rounds)]
            for number, (times, target) in enumerate(TARGETS.items()):
                served, refused, recovery = (statistics.median(each[number][what] for each in rounds) for what in range(3))
                goodput = statistics.median(each[number][0] / each[0][0] for each in rounds)
                missed |= ours and (goodput < target or recovery > RECOVERY)
                wanted = (f">= {target:.2f}", f"<= {RECOVERY} s") if ours and times > 1 else ("", "")
                print(f"{name:12}{load.__name__:10}{SATURATING * times:12}{served:10.0f}{refused:11.0f}{goodput:9.2f}{wanted[0]:>9}{recovery:8.2f} s{wanted[1]:>9}", flush=True)
    return missed


def measure(world, name, load, times, seconds):
    """Of a server of its own: what the last crowd left behind is not this one's."""
    progress(f"{name}, {load.__name__}, {SATURATING * times} connections")
    process, port = start(world) if name == "portcullis" else peers.start(world, name)
    try:
        served, refused = load(world, port, SATURATING * times, seconds)
        return served, refused, recover(port, "/.well-known/jwks.json" if name == "portcullis" else "/")
    finally:
        world.stop(process)


def start(world, limits="connections_per_address: unlimited"):
    folder = world.path("gateway")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{PORT}
    tls: {{certificates: [{{cert: {world.crt}, key: {world.key}}}]}}
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
    return world.run(SERVER_CORE, [world.binary, "run"], PORT, cwd=folder), PORT


def requests(world, port, connections, seconds):
    token = ["-H", f"Authorization: Bearer {grant(PORT)}"] if port == PORT else []
    return wrk(port, connections, seconds, token, "/data")


def grants(world, port, connections, seconds):
    basic = base64.b64encode(f"bench:{SECRET}".encode()).decode()
    script = world.write("grant.lua", f"""
        wrk.method, wrk.body = "POST", "grant_type=client_credentials"
        wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
        wrk.headers["Authorization"] = "Basic {basic}" """)
    return wrk(port, connections, seconds, ["-s", script], "/oauth/token")


def wrk(port, connections, seconds, arguments, path):
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", *arguments]
    text = subprocess.run([*command, f"https://localhost:{port}{path}"], check=True, capture_output=True, text=True).stdout
    done = int(re.search(r"(\d+) requests in", text).group(1))
    refused = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    took = float(re.search(r"requests in ([\d.]+)s", text).group(1))
    return (done - refused) / took, refused / took


def recover(port, path):
    """Seconds until ten answers in a row take less than 50 ms each."""
    began, swift, client = time.monotonic(), 0, Client(port, path)
    while swift < 10 and time.monotonic() - began < 30:
        took = client.ask()
        swift = swift + 1 if took and took < 0.05 else 0
    return time.monotonic() - began


class Client:
    """One connection, which it makes anew when it fails."""

    def __init__(self, port, path, address="127.0.0.1"):
        self.port, self.path, self.address, self.connection = port, path, address, None
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def ask(self):
        """Seconds until the answer; `None` where there is none."""
        asked = time.monotonic()
        try:
            self.connection = self.connection or http.client.HTTPSConnection(
                "127.0.0.1", self.port, context=self.context, timeout=5, source_address=(self.address, 0))
            self.connection.request("GET", self.path)
            return time.monotonic() - asked if self.connection.getresponse().read() else None
        except (OSError, http.client.HTTPException):
            self.connection = None
            return None


def hammer(world, options):
    process, port = start(world, "connections_per_address: 8, handshake_timeout: 1h")
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
    world.stop(process)
    print(f"hammer: {count / (options.seconds + 1):.0f} refused/s; p99 of another address {quiet * 1000:.2f} ms alone, {beside * 1000:.2f} ms beside it"
          f" ({beside / quiet:.2f} x, target <= 2)")
    return beside > 2 * quiet


def canary(client, seconds):
    """The 99th percentile, in seconds, of a hundred requests a second; a request without an answer takes for ever."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        took.append(client.ask() or math.inf)
        time.sleep(0.01)
    return sorted(took)[len(took) * 99 // 100]


if __name__ == "__main__":
    main()
