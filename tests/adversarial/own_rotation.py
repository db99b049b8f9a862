#!/usr/bin/env python3
"""The gateway's own key rotates every 5 s, under load: no request and no token request fails.

    tests/adversarial/own_rotation.py                 5 minutes
    tests/adversarial/own_rotation.py --minutes 1

wrk requests tokens and, with a token that is renewed every few seconds, a route. Beside it, a checker uses every token once a second until
shortly before it expires, so that tokens of keys that have long been rotated are verified too.
"""

import argparse
import base64
import glob
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from lib.load import grant_script
from lib.testbed import PORTCULLIS, SECRET, UPSTREAM, Testbed, grant, progress, require

PORT = 9112
TTL = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "nginx", "wrk", "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    try:
        testbed.start_upstream()
        gateway = start(testbed)
        counts = run(testbed, options.minutes * 60)
        rotations = sum(line.count('"gateway.event":"key_made"') for path in glob.glob(os.path.join(gateway, "audit.jsonl*"))
                        for line in open(path))
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'rotations':34}{rotations:>10}")
    for name, (done, failed) in counts.items():
        print(f"{name:34}{done:>10}   failed {failed}   target 0")
    sys.exit(1 if any(failed or not done for done, failed in counts.values()) or not rotations else 0)


def start(testbed):
    folder = testbed.path("rotating")
    os.makedirs(folder)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
listeners:
  - address: 127.0.0.1:{PORT}
    tls: {{certificates: [{{cert: {testbed.crt}, key: {testbed.key}}}]}}
allow_literal_secrets: true
limits: {{connections_per_address: unlimited}}
oauth:
  issuer: https://localhost:{PORT}
  audiences: [https://api.example.com]
  token_ttl: {TTL}s
  signing_keys: {{algorithm: ES256, rotate_every: 5s}}
  token_endpoint: {{rate_limits: [{{rate: 1000000/s, per: address}}]}}
  clients:
    bench: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
upstreams: {{legacy: "http://127.0.0.1:{UPSTREAM}"}}
routes: [{{path: /**, upstream: legacy, access: {{scopes: [read:data]}}}}]
audit: {{file: audit.jsonl}}
""")
    testbed.run("0,1", [testbed.binary, "run"], PORT, cwd=folder)
    return folder


def run(testbed, seconds):
    ends = time.monotonic() + seconds
    counts = {"requests by wrk": [0, 0], "grants by wrk": [0, 0], "tokens of every age, each a second": [0, 0]}
    script = grant_script(testbed)
    requests = lambda: wrk(counts["requests by wrk"], ["-H", f"Authorization: Bearer {grant(PORT)}"], "/data")
    grants = lambda: wrk(counts["grants by wrk"], ["-s", script], "/oauth/token")
    threads = [threading.Thread(target=until, args=(ends, work)) for work in (requests, grants)]
    threads.append(threading.Thread(target=use_tokens_of_every_age, args=(ends, counts["tokens of every age, each a second"])))
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        progress("  ".join(f"{name}: {done} ({failed} failed)" for name, (done, failed) in counts.items()))
        time.sleep(1 if sys.stderr.isatty() else 30)
    progress("")
    return counts


def until(ends, work):
    while time.monotonic() < ends:
        work()


def wrk(count, arguments, path):
    command = ["wrk", "-t1", "-c16", "-d3s", *arguments, f"https://localhost:{PORT}{path}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count[0] += int(re.search(r"(\d+) requests in", text).group(1))
    count[1] += sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    count[1] += sum(int(number) for number in errors.groups()) if errors else 0


def use_tokens_of_every_age(ends, count):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", PORT, context=context)
    tokens = []
    while time.monotonic() < ends:
        second = time.monotonic() + 1
        tokens = [(token, made) for token, made in tokens if time.monotonic() < made + TTL - 2]
        tokens.append((grant(PORT), time.monotonic()))
        for token, _ in tokens:
            connection.request("GET", "/data", headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            count[0] += 1
            if answer.status != 200:
                count[1] += 1
                print(f"{answer.status} for a token of {kid(token)}", file=sys.stderr)
        time.sleep(max(0, second - time.monotonic()))


def kid(token):
    part = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["kid"]


if __name__ == "__main__":
    main()
