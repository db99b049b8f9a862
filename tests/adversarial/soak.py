#!/usr/bin/env python3
"""Memory and descriptors do not grow over an hour of half load with connections that come and go.

    tests/adversarial/soak.py                 60 minutes
    tests/adversarial/soak.py --minutes 20

In turns of ten seconds: requests over kept connections, requests over new ones, token requests, refused tokens, unknown paths; then a rest
of the same length. Memory and descriptors are read at the end of each rest. The first third is warm-up. The slope is a straight line fitted
to the rest.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time

from lib.load import goodput, grant_script
from lib.testbed import PORTCULLIS, SECRET, SERVER_CORE, UPSTREAM, Testbed, grant, progress, require

PORT = 9116
TURN = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "nginx", "wrk", "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    try:
        testbed.start_upstream()
        samples, counts = soak(testbed, start(testbed), options.minutes * 60)
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    settled = samples[len(samples) // 3:]
    rise = slope([(at, memory) for at, memory, _ in settled])
    # The descriptors include idle connections to the upstream. Some of these stay open longer than a rest.
    descriptors = [count for _, _, count in settled]
    more = slope([(at, count) for at, _, count in settled])
    good = rise < 1 and more < 1
    print(f"{options.minutes:g} min, {sum(counts.values())} answers: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    print(f"memory   {settled[0][1]:.1f} MiB after the warm-up, {settled[-1][1]:.1f} at the end, {rise:+.3f} MiB/min   target < 1")
    print(f"descriptors at rest   {min(descriptors)} to {max(descriptors)}, {more:+.3f} a minute   target flat")
    sys.exit(0 if good else 1)


def start(testbed):
    folder = testbed.path("soaked")
    os.makedirs(folder)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{PORT}
    tls: {{certificates: [{{cert: {testbed.crt}, key: {testbed.key}}}]}}
allow_literal_secrets: true
limits: {{connections_per_address: unlimited, in_flight_per_address: unlimited}}
oauth:
  issuer: https://localhost:{PORT}
  audiences: [https://api.example.com]
  token_ttl: 60s
  signing_keys: {{algorithm: ES256, rotate_every: 60s}}
  token_endpoint: {{rate_limits: [{{rate: 1000000/s, per: address}}]}}
  clients:
    bench: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
upstreams: {{legacy: "http://127.0.0.1:{UPSTREAM}"}}
routes: [{{path: /data, upstream: legacy, access: {{scopes: [read:data]}}}}]
audit: {{file: audit.jsonl, rotate: {{size: 256MiB, keep: 2}}}}
""")
    return testbed.run(SERVER_CORE, [testbed.binary, "run"], PORT, cwd=folder)


def soak(testbed, process, seconds):
    script = grant_script(testbed)
    began, samples, counts = time.monotonic(), [], {"good": 0, "refused": 0}
    while time.monotonic() - began < seconds:
        bearer = ["-H", f"Authorization: Bearer {grant(PORT)}"]
        for arguments, path in [(bearer, "/data"), ([*bearer, "-H", "Connection: close"], "/data"), (["-s", script], "/oauth/token"),
                                (["-H", "Authorization: Bearer a.b.c"], "/data"), ([], f"/none/{time.time()}")]:
            good, refused = wrk(arguments, path)
            counts["good"] += good
            counts["refused"] += refused
        time.sleep(TURN * 5)
        if process.poll() is not None:
            sys.exit(f"the gateway has ended:\n{open(testbed.path('stderr')).read()[-3000:]}")
        samples.append(((time.monotonic() - began) / 60, resident(process.pid), len(os.listdir(f"/proc/{process.pid}/fd"))))
        progress(f"{samples[-1][0]:.1f} min  {samples[-1][1]:.1f} MiB  {samples[-1][2]} descriptors")
    progress("")
    return samples, counts


def wrk(arguments, path):
    served, refused = goodput(PORT, 48, TURN, arguments, path)
    return int(served * TURN), int(refused * TURN)


def resident(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


def slope(points):
    """MiB per minute, by least squares."""
    count = len(points)
    middle_x, middle_y = (sum(point[axis] for point in points) / count for axis in (0, 1))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


if __name__ == "__main__":
    main()
