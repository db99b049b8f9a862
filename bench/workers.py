#!/usr/bin/env python3
"""CPU per request of a gateway with two workers, beside one with one worker, at the same rate.

    bench/workers.py
    bench/workers.py --rounds 9 --seconds 5 --binary OTHER/portcullis

Both gateways may run on all cores. The load and a static nginx upstream run on core 1. The rate is half of what one worker on core 0 serves
at most. CPU per request is the run time of all threads of the gateway, from the kernel's schedstat, divided by the number of 2xx answers.
Every round measures the gateway with one worker twice, as a control.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile

from lib.load import h2load, wrk
from lib.testbed import OURS, PORTCULLIS, Testbed, grant, progress, require, run_time

ALL_CORES = f"0-{os.cpu_count() - 1}"
CONNECTIONS = 64
GATEWAYS = {"1 worker": 1, "2 workers": 2, "1 worker again": 1}
TARGET = 1.05


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "nginx", "wrk", "h2load", "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    try:
        testbed.start_upstream()
        rate = peak(testbed, options.seconds) / 2
        found = {name: [] for name in GATEWAYS}
        for number in range(options.rounds):
            turn = number % len(GATEWAYS)
            names = list(GATEWAYS)
            for name in names[turn:] + names[:turn]:
                found[name].append(cost(testbed, GATEWAYS[name], rate, options.seconds))
                progress(f"round {number + 1} of {options.rounds}, {name}: {found[name][-1]:.1f} us a request")
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    progress("")
    sys.exit(0 if verdict(found, rate) else 1)


def peak(testbed, seconds):
    """The requests per second of one worker on core 0."""
    process, port = testbed.portcullis()
    try:
        testbed.token = grant(port)
        wrk(port, 1, token=testbed.token)
        return wrk(port, seconds, CONNECTIONS, token=testbed.token) / seconds
    finally:
        testbed.stop(process)


def cost(testbed, workers, rate, seconds):
    """Microseconds of CPU per request."""
    process, port = testbed.portcullis(port=OURS, folder=testbed.path(f"workers-{workers}"), workers=workers, cores=ALL_CORES)
    at_rate = ["--h1", f"-c{CONNECTIONS}", "--warm-up-time=0", f"--rps={rate / CONNECTIONS:.3f}"]
    try:
        h2load(port, [*at_rate, "-D1"], testbed.token)
        before = run_time(process)
        requests = h2load(port, [*at_rate, f"-D{seconds}"], testbed.token)
        return (run_time(process) - before) / requests * 1e6
    finally:
        testbed.stop(process)


def verdict(found, rate):
    """Prints the figures. True if the target is met."""
    one = found["1 worker"]
    print(f"{rate:.0f} requests a second over {CONNECTIONS} connections")
    for name, each in found.items():
        ratios = [value / base for value, base in zip(each, one)]
        print(f"{name:16}{statistics.median(each):8.1f} us a request{statistics.median(ratios):8.2f} x   ({min(ratios):.2f} to {max(ratios):.2f})")
    again = statistics.median(value / base for value, base in zip(found["1 worker again"], one))
    if abs(again - 1) > 0.05:
        print("TOO NOISY: measure again")
    ratio = statistics.median(value / base for value, base in zip(found["2 workers"], one))
    print(f"2 workers / 1 worker: {ratio:.2f}, target <= {TARGET}  {'met' if round(ratio, 2) <= TARGET else 'MISSED'}")
    return round(ratio, 2) <= TARGET


if __name__ == "__main__":
    main()
