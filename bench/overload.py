#!/usr/bin/env python3
"""What is served when ten times as many ask as can be served, and how soon all is well again afterwards.

    bench/overload.py

The gateway has one worker on core 0. wrk asks from core 1, first over as many connections as saturate it, then over ten times and a
hundred times as many, at once asking again whatever the answer was: goodput counts 2xx only. Requests with a token, and grants with
RS256, whose signatures are what the core spends its time on. Recovery is how long after the load a client waits for answers in
its usual time. Needs wrk, openssl, taskset and a release build.
"""

import argparse
import base64
import os
import re
import shutil
import ssl
import http.client
import statistics
import subprocess
import sys
import tempfile
import time

from world import LOAD_CORE, PORTCULLIS, SECRET, SERVER_CORE, UPSTREAM, World, grant, progress, require

PORT = 9114
SATURATING = 32
TARGET, RECOVERY = 0.8, 5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary)
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    world = World(folder, options.binary)
    missed = False
    try:
        world.start_upstream()
        start(world)
        print(f"{'':10}{'connections':>12}{'served/s':>10}{'refused/s':>11}{'goodput':>9}{'target':>9}{'recovery':>10}{'target':>9}")
        for name, load in (("requests", requests), ("grants", grants)):
            peak = None
            for times in (1, 10, 100):
                progress(f"{name}, {SATURATING * times} connections")
                served, refused = load(world, SATURATING * times, options.seconds)
                recovery = recover()
                peak = peak or served
                ratio = served / peak
                missed |= ratio < TARGET or recovery > RECOVERY
                print(f"{name:10}{SATURATING * times:12}{served:10.0f}{refused:11.0f}{ratio:9.2f}{'>= %.2f' % TARGET:>9}{recovery:8.2f} s{'<= %d s' % RECOVERY:>9}")
        progress("")
    finally:
        world.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if missed else 0)


def start(world):
    folder = world.path("gateway")
    os.makedirs(folder)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{PORT}
    tls: {{certificates: [{{cert: {world.crt}, key: {world.key}}}]}}
allow_literal_secrets: true
limits: {{connections_per_address: unlimited}}
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
    world.run(SERVER_CORE, [world.binary, "run"], PORT, cwd=folder)


def requests(world, connections, seconds):
    return wrk(connections, seconds, ["-H", f"Authorization: Bearer {grant(PORT)}"], "/data")


def grants(world, connections, seconds):
    basic = base64.b64encode(f"bench:{SECRET}".encode()).decode()
    script = world.write("grant.lua", f"""
        wrk.method, wrk.body = "POST", "grant_type=client_credentials"
        wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
        wrk.headers["Authorization"] = "Basic {basic}" """)
    return wrk(connections, seconds, ["-s", script], "/oauth/token")


def wrk(connections, seconds, arguments, path):
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", *arguments]
    text = subprocess.run([*command, f"https://localhost:{PORT}{path}"], check=True, capture_output=True, text=True).stdout
    done = int(re.search(r"(\d+) requests in", text).group(1))
    refused = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    took = float(re.search(r"requests in ([\d.]+)s", text).group(1))
    return (done - refused) / took, refused / took


def recover():
    """Seconds until ten answers in a row take less than 50 ms each."""
    began, swift = time.monotonic(), 0
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = None
    while swift < 10 and time.monotonic() - began < 30:
        asked = time.monotonic()
        try:
            connection = connection or http.client.HTTPSConnection("127.0.0.1", PORT, context=context, timeout=5)
            connection.request("GET", "/.well-known/jwks.json")
            good = connection.getresponse().read() and time.monotonic() - asked < 0.05
        except (OSError, http.client.HTTPException):
            connection, good = None, False
        swift = swift + 1 if good else 0
    return time.monotonic() - began


if __name__ == "__main__":
    main()
