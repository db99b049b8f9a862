#!/usr/bin/env python3
"""Grants beside a flood of assertions of unknown clients: the latencies, the memory, and the fetches of keys.

    bench/assertion_flood.py
    bench/assertion_flood.py --seconds 20 --rate 5000

The gateway runs on core 0, with a client whose keys are at a URL. Valid clients ask for tokens by secret at a fixed rate, first alone and then
beside the flood. Each assertion of the flood is of another client, has an id of its own, and no key has signed it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading

from lib.assertions import ClientKey, KeySetServer, of_unknown_clients, script
from lib.load import basic_credentials
from lib.testbed import LOAD_CORE, PORTCULLIS, Testbed, require, resident

PORT = 9113
P99_TARGET, MEMORY_TARGET, FETCHES_TARGET = 2.0, 1.2, 5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rate", type=int, default=5000, help="assertions per second")
    parser.add_argument("--grants", type=int, default=200, help="valid grants per second")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "wrk", "h2load", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed, keys = Testbed(folder, options.binary), KeySetServer(ClientKey())
    try:
        client = f'    keyed: {{keys: [{{jwks_uri: "{keys.url}"}}], scopes: [read:data]}}'
        process = testbed.authorization_server(PORT, "ES256", client)
        flood = script(testbed, "flood", of_unknown_clients(f"https://localhost:{PORT}", options.rate * 4), delay=10)
        grants(testbed, options, 2)
        alone, before, fetched = grants(testbed, options, options.seconds), resident(process), keys.fetches
        beside, sent = with_flood(testbed, options, flood)
        print_result(options, (alone, beside), sent, resident(process) / before, keys.fetches - fetched)
    finally:
        keys.stop()
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def grants(testbed, options, seconds):
    """The sorted latencies of valid grants at a fixed rate, in microseconds."""
    log, body = testbed.path("grants.log"), testbed.write("grant.form", "grant_type=client_credentials")
    open(log, "w").close()
    command = ["taskset", "-c", LOAD_CORE, "h2load", "--h1", "-t1", "-c16", f"-D{seconds}", "--warm-up-time=0", f"--rps={options.grants / 16:.3f}",
               f"--log-file={log}", "-d", body, "-H", f"authorization: {basic_credentials()}",
               "-H", "content-type: application/x-www-form-urlencoded", f"https://localhost:{PORT}/oauth/token"]
    subprocess.run(command, check=True, capture_output=True)
    lines = [line.split("\t") for line in open(log) if line.strip()]
    refused = sum(status != "200" for _, status, _ in lines)
    if refused or not lines:
        sys.exit(f"{refused} of {len(lines)} grants were refused")
    return sorted(int(micros) for _, _, micros in lines)


def with_flood(testbed, options, lua):
    """The same beside the flood, and the number of assertions per second that were answered."""
    seconds, result = options.seconds + 2, {}
    connections = max(1, options.rate // 100)
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", lua, f"https://localhost:{PORT}/oauth/token"]
    flood = threading.Thread(target=lambda: result.update(text=subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    flood.start()
    latencies = grants(testbed, options, options.seconds)
    flood.join()
    return latencies, float(result["text"].split("Requests/sec:")[1].split()[0])


def print_result(options, latencies, sent, memory, fetches):
    p99 = [sorted_micros[len(sorted_micros) * 99 // 100] for sorted_micros in latencies]
    rows = [("assertions per second", sent, options.rate * 0.8, ">="), ("p99 beside the flood, to p99 alone", p99[1] / p99[0], P99_TARGET, "<="),
            ("memory after, to before", memory, MEMORY_TARGET, "<="), ("fetches of keys", fetches, FETCHES_TARGET, "<=")]
    for name, value, target, sign in rows:
        print(f"{name:38}{value:10.2f}{sign:>5} {target:g}")
    print(json.dumps({"p99_us": p99}))
    sys.exit(1 if any(value < target if sign == ">=" else value > target for _, value, target, sign in rows) else 0)


if __name__ == "__main__":
    main()
