#!/usr/bin/env python3
"""Start time and resident memory, and how they grow with routes, clients and open connections.

    bench/scale.py               prints
    bench/scale.py --publish     also writes the table in docs/explanation/performance.md

One worker. The start time is from exec to the first answer over TLS, the best of three, with signing keys present. Idle connections are TLS
over HTTP/1.1 and have had one answer each. Their largest number is what the limit of open files allows, up to 100,000.
bench/compare.py measures how cost and memory grow with the number of distinct tokens.
"""

import argparse
import json
import os
import resource
import shutil
import ssl
import subprocess
import tempfile
import time

from lib import load
from compare import FIGURES, write
from lib.render import publish
from lib.testbed import OURS, PORTCULLIS, Testbed, grant, progress, require, resident

SIZES = (10, 1_000, 10_000, 100_000)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=PORTCULLIS)
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    require(options.binary, "nginx", "openssl", "taskset")
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    folder = tempfile.mkdtemp(prefix="portcullis-scale-")
    testbed = Testbed(folder, options.binary)
    try:
        testbed.start_upstream()
        rows = [row for kind in ("routes", "clients") for row in starts(testbed, kind)]
        rows += connections(testbed, [100, 1_000, min(100_000, descriptors // 2 - 100)])
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    progress("")
    print(f"{'':14}{'number':>10}{'start':>12}{'resident':>14}")
    for kind, number, start, memory in rows:
        print(f"{kind:14}{number:10,}{f'{start:,.0f} ms' if start else '':>12}{memory / 1024:10,.1f} MiB")
    if options.publish:
        figures = json.load(open(FIGURES)) if os.path.exists(FIGURES) else {"scenarios": {}}
        write(FIGURES, {**figures, "scale": rows})
        if figures["scenarios"]:
            publish({**figures, "scale": rows})


def starts(testbed, kind):
    for size in SIZES:
        routes, clients = (size, 10) if kind == "routes" else (10, size)
        folder = testbed.path(f"{kind}-{size}")
        configuration(testbed, folder, routes, clients)
        times = []
        for attempt in range(4):
            progress(f"{size:,} {kind}, start {attempt + 1} of 4")
            process, took = start(testbed, folder)
            times.append(took)
            # By now the process has returned the memory that only the start needed.
            time.sleep(1)
            memory = resident(process)
            testbed.stop(process)
        # The first start created the keys.
        yield kind, size, min(times[1:]) * 1000, memory


def configuration(testbed, folder, routes, clients):
    routes = "".join(f"\n  - {{path: '/r{n}/{{id}}/**', upstream: legacy, access: {{scopes: [read:data]}}}}" for n in range(routes))
    clients = "".join(f"    c{n:06}: {{secrets: [{{hash: 'sha256:{'A' * 43}'}}], scopes: [read:data]}}\n" for n in range(clients))
    process, _ = testbed.gateway(OURS, folder, routes, clients=clients)
    testbed.stop(process)


def start(testbed, folder):
    began, context = time.monotonic(), load.tls_context()
    process = subprocess.Popen([testbed.binary, "run"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    testbed.running.append(process)
    while True:
        try:
            load.answered_connection(context, OURS).close()
            return process, time.monotonic() - began
        except (OSError, ssl.SSLError):
            if process.poll() is not None or time.monotonic() - began > 60:
                raise SystemExit("the gateway did not start") from None
            time.sleep(0.001)


def connections(testbed, sizes):
    process, port = testbed.portcullis()
    token, held = grant(port), []
    for size in sizes:
        progress(f"{size:,} connections")
        held += load.idle_connections(port, size - len(held), token)
        time.sleep(4)
        yield "connections", size, None, resident(process)
    for connection in held:
        connection.close()
    testbed.stop(process)


if __name__ == "__main__":
    main()
