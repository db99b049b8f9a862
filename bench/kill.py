#!/usr/bin/env python3
"""kill -9 under load, again and again: every token that a client got has its line, and the chain verifies.

    bench/kill.py                 100 times
    bench/kill.py --times 10

The gateway runs with `audit.sync: grants`, its default, and is killed after a random part of a second with grants under way; then
it is started again on the same log. Beside the chain, what is counted is grants that a client has in hand and the log has
not: target 0. Needs openssl, taskset and a release build.
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

from asking import Asker, gateway_folder
from world import PORTCULLIS, World, progress, require

PORT = 9121


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary)
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    world = World(folder, options.binary)
    try:
        ours = gateway_folder(world, "killed", PORT, "file: audit.jsonl, rotate: {size: unlimited, age: unlimited}")
        asker = Asker(PORT, requests=False)
        asking = [threading.Thread(target=asker.until_stopped) for _ in range(8)]
        for number in range(options.times):
            process = world.run("0,1", [world.binary, "run"], PORT, cwd=ours)
            if number == 0:
                for thread in asking:
                    thread.start()
            time.sleep(random.uniform(0.05, 0.5))
            world.stop(process)
            progress(f"killed {number + 1}/{options.times}, {len(asker.grants)} grants")
        progress("")
        asker.stop(asking)
        # A last start, to its end.
        process = world.run("0,1", [world.binary, "run"], PORT, cwd=ours)
        process.terminate()
        process.wait()
        world.running.remove(process)
        verified = subprocess.run([world.binary, "audit", "verify", "--format", "json"], cwd=ours, capture_output=True, text=True)
        report = json.loads(verified.stdout)
        lines = [json.loads(line) for line in open(os.path.join(ours, "audit.jsonl"))]
        issued = {line["gateway.request_id"] for line in lines if line.get("gateway.decision") == "issue"}
    finally:
        world.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    without = [grant for _, grant in asker.grants if grant not in issued]
    print(f"kills                          {options.times:>8}")
    print(f"grants that clients have       {len(asker.grants):>8}")
    print(f"of these without a line        {len(without):>8}   target 0")
    print(f"torn lines recovered           {report['recovered']:>8}")
    print(f"integrity, completeness        {report['integrity']}, {report['completeness']}   target intact, complete")
    sys.exit(1 if without or not asker.grants or verified.returncode != 0 else 0)


main()
