#!/usr/bin/env python3
"""kill -9 under load, repeatedly: every token that a client got has its line in the audit log, and the chain verifies.

    tests/adversarial/kill.py                 100 times
    tests/adversarial/kill.py --times 10

The gateway runs with `audit.sync: grants`, its default. It is killed after a random part of a second with token requests in flight, and
started again on the same log. Counted are tokens that a client holds and the log does not have: target 0.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from lib.token_client import TokenClient, gateway_folder
from lib.testbed import PORTCULLIS, Testbed, progress, require

PORT = 9121


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "openssl", "taskset")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = Testbed(folder, options.binary)
    try:
        ours = gateway_folder(testbed, "killed", PORT, "file: audit.jsonl, rotate: {size: unlimited, age: unlimited}")
        client = TokenClient(PORT, requests=False)
        threads = [threading.Thread(target=client.until_stopped) for _ in range(8)]
        for number in range(options.times):
            process = testbed.run("0,1", [testbed.binary, "run"], PORT, cwd=ours)
            if number == 0:
                for thread in threads:
                    thread.start()
            time.sleep(random.uniform(0.05, 0.5))
            testbed.stop(process)
            progress(f"killed {number + 1}/{options.times}, {len(client.grants)} grants")
        progress("")
        client.stop(threads)
        # Starts once more, and stops in an orderly way.
        process = testbed.run("0,1", [testbed.binary, "run"], PORT, cwd=ours)
        process.terminate()
        process.wait()
        testbed.running.remove(process)
        verified = subprocess.run([testbed.binary, "audit", "verify", "--format", "json"], cwd=ours, capture_output=True, text=True)
        report = json.loads(verified.stdout)
        lines = [json.loads(line) for line in open(os.path.join(ours, "audit.jsonl"))]
        issued = {line["gateway.request_id"] for line in lines if line.get("gateway.decision") == "issue"}
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    without = [grant for _, grant in client.grants if grant not in issued]
    print(f"kills                          {options.times:>8}")
    print(f"grants that clients have       {len(client.grants):>8}")
    print(f"of these without a line        {len(without):>8}   target 0")
    print(f"torn lines recovered           {report['recovered']:>8}")
    print(f"integrity, completeness        {report['integrity']}, {report['completeness']}   target intact, complete")
    sys.exit(1 if without or not client.grants or verified.returncode != 0 else 0)


main()
