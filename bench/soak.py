#!/usr/bin/env python3
"""Memory and descriptors over an hour of half load, with connections that come and go.

    bench/soak.py                 60 minutes
    bench/soak.py --minutes 20

In turns of ten seconds: requests over kept connections, requests over new ones, token grants, tokens that are refused, paths that there
are not; then as long nothing. Memory and descriptors are read at the end of each rest. Memory is judged after a warm-up of a third: its slope is a
straight line fitted to what is left. Needs nginx, wrk, openssl, taskset and a release build.
"""

import argparse
import base64
import os
import shutil
import sys
import tempfile
import time

from world import PORTCULLIS, SECRET, SERVER_CORE, UPSTREAM, World, grant, progress, require
from overload import wrk as _wrk

PORT = 9116
TURN = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary)
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    world = World(folder, options.binary)
    try:
        world.start_upstream()
        samples, counts = soak(world, start(world), options.minutes * 60)
    finally:
        world.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    settled = samples[len(samples) // 3:]
    rise = slope([(at, memory) for at, memory, _ in settled])
    # Idle connections to the upstream are among them, some of which outlast a rest.
    descriptors = [count for _, _, count in settled]
    more = slope([(at, count) for at, _, count in settled])
    good = rise < 1 and more < 1
    print(f"{options.minutes:g} min, {sum(counts.values())} answers: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    print(f"memory   {settled[0][1]:.1f} MiB after the warm-up, {settled[-1][1]:.1f} at the end, {rise:+.3f} MiB/min   target < 1")
    print(f"descriptors at rest   {min(descriptors)} to {max(descriptors)}, {more:+.3f} a minute   target flat")
    sys.exit(0 if good else 1)


def start(world):
    folder = world.path("soaked")
    os.makedirs(folder)
    with open(os.path.join(folder, "gateway.yaml"), "w") as file:
        file.write(f"""
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{PORT}
    tls: {{certificates: [{{cert: {world.crt}, key: {world.key}}}]}}
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
    return world.run(SERVER_CORE, [world.binary, "run"], PORT, cwd=folder)


def soak(world, process, seconds):
    basic = base64.b64encode(f"bench:{SECRET}".encode()).decode()
    script = world.write("grant.lua", f"""
        wrk.method, wrk.body = "POST", "grant_type=client_credentials"
        wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
        wrk.headers["Authorization"] = "Basic {basic}" """)
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
            sys.exit(f"the gateway has ended:\n{open(world.path('stderr')).read()[-3000:]}")
        samples.append(((time.monotonic() - began) / 60, resident(process.pid), len(os.listdir(f"/proc/{process.pid}/fd"))))
        progress(f"{samples[-1][0]:.1f} min  {samples[-1][1]:.1f} MiB  {samples[-1][2]} descriptors")
    progress("")
    return samples, counts


def wrk(arguments, path):
    import overload
    overload.PORT = PORT
    served, refused = _wrk(48, TURN, arguments, path)
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
