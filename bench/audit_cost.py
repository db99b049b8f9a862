#!/usr/bin/env python3
"""CPU per line of the audit log, and the speed of `portcullis audit verify`.

    bench/audit_cost.py
    bench/audit_cost.py --seconds 20 --binary OTHER/portcullis

One worker on core 0 answers wrk with one token. The figure is the run time of the thread that writes lines and of the one that signs
checkpoints, from the kernel's schedstat, divided by the number of lines. Then `portcullis audit verify` reads that log on both cores, the
best of five.
"""

import argparse
import glob
import os
import shutil
import subprocess
import tempfile
import time

from lib.load import wrk
from lib.testbed import PORTCULLIS, Testbed, grant, require


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "nginx", "wrk", "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    try:
        testbed.start_upstream()
        process, port = testbed.portcullis()
        token = grant(port)
        wrk(port, 1, token=token)
        log = os.path.join(testbed.path("ours-full"), "audit.jsonl")
        time.sleep(0.2)
        before, lines_before = run_time(process), count(log)
        requests = wrk(port, options.seconds, token=token)
        time.sleep(0.2)
        lines = count(log) - lines_before
        cost = (run_time(process) - before) / lines * 1e6
        print(f"audit threads: {cost:.2f} us a line  ({lines} lines of {os.path.getsize(log) / count(log):.0f} bytes, {requests / options.seconds:.0f} requests a second)")
        testbed.stop(process)
        verify(testbed, log)
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def run_time(process):
    """Seconds that the threads of the audit log have run."""
    total = 0
    for comm in glob.glob(f"/proc/{process.pid}/task/*/comm"):
        if open(comm).read().strip() in ("audit", "audit-sign"):
            total += int(open(os.path.join(os.path.dirname(comm), "schedstat")).read().split()[0])
    return total / 1e9


def count(path):
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def verify(testbed, log):
    times = []
    for _ in range(5):
        begun = time.monotonic()
        done = subprocess.run([testbed.binary, "audit", "verify", "--no-checkpoints", log], capture_output=True, text=True)
        times.append(time.monotonic() - begun)
        if done.returncode != 0:
            raise SystemExit(f"not verified:\n{done.stdout}{done.stderr}")
    size = os.path.getsize(log)
    print(f"verify: {size / min(times) / 1e9:.2f} GB/s  ({size / 1e6:.0f} MB in {min(times):.3f} s)")


main()
