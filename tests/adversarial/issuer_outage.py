#!/usr/bin/env python3
"""An issuer is unreachable for half an hour, under load: no request fails, and a gateway that starts meanwhile serves too.

    tests/adversarial/issuer_outage.py                30 minutes
    tests/adversarial/issuer_outage.py --minutes 2    shorter; the keys' time to live is a minute

The configuration has `max_stale: 1h`. At the end, while the issuer is still unreachable, the gateway is killed and started again. The test
measures the time from exec to its first 200, with keys from the disk.
"""

import asyncio
import os
import random
import subprocess
import sys
import time

from lib.issuer_testbed import IssuerTestbed, Issuer, Key, options, paced, status_of, verdict
from lib.testbed import SERVER_CORE, require

COLD_START = 1.0


class Load:
    """Half of its tokens are new, so that they are not answered from memory."""

    def __init__(self, issuer):
        self.issuer, self.token, self.answers, self.failed = issuer, None, 0, []

    def draw(self):
        if self.token is None or random.random() < 0.5:
            self.token = self.issuer.keys[0].sign(self.issuer.name)
        return self.token, None

    def judge(self, _, status, sent, answered):
        self.answers += 1
        if status != 200:
            self.failed.append((status, round(sent, 1)))


def main():
    arguments = options(__doc__, 30).parse_args()
    require(arguments.binary, "nginx", "openssl", "taskset")
    issuer = Issuer(max_age=60)
    issuer.keys = [Key("k1")]
    issuer.start()
    testbed = IssuerTestbed(arguments.binary, issuer)
    try:
        process = testbed.start_gateway()
        testbed.ready()
        wait_for(testbed.path("state/jwks/corp.json"))
        load = Load(issuer)
        issuer.stop()
        asyncio.run(paced(testbed.port, arguments.rate, arguments.minutes * 60, load.draw, load.judge))
        stale = testbed.metric("portcullis_jwks_stale_served_total")
        testbed.stop(process)
        took = cold_start(testbed, load.draw()[0])
        issuer.start()
        back = time.monotonic()
        while not issuer.asked or issuer.asked[-1] < back:
            if time.monotonic() - back > 90:
                break
            time.sleep(0.1)
        recovered = issuer.asked[-1] - back if issuer.asked[-1] >= back else None
    finally:
        testbed.close()
    remarks = [
        f"{stale:.0f} look-ups answered from a set beyond its time to live",
        f"the issuer was asked again {recovered:.1f} s after it came back" if recovered is not None else "the issuer was not asked again within 90 s",
        *(f"failed: {failed}" for failed in load.failed[:10]),
    ]
    rows = [
        ("requests failed", "0", str(len(load.failed)), not load.failed and load.answers > 0),
        ("cold start to the first 200, issuer away", f"<= {COLD_START:g} s", f"{took:.3f} s", took <= COLD_START),
    ]
    if arguments.minutes > 1.5:
        rows.append(("served beyond the time to live", "> 0", f"{stale:.0f}", stale > 0))
    verdict(f"issuer away for {arguments.minutes:g} min, {load.answers} requests", rows, remarks)


def wait_for(path):
    deadline = time.monotonic() + 10
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            sys.exit("the gateway keeps no keys on the disk")
        time.sleep(0.05)


def cold_start(testbed, token):
    began = time.monotonic()
    process = subprocess.Popen(["taskset", "-c", SERVER_CORE, testbed.binary, "run"], cwd=testbed.folder, stdout=subprocess.DEVNULL,
                               stderr=open(testbed.path("stderr"), "ab"), start_new_session=True)
    testbed.running.append(process)
    while (status := status_of(testbed.port, token)) != 200:
        if process.poll() is not None or time.monotonic() - began > 30:
            print(f"the gateway answered {status}:\n{open(testbed.path('stderr')).read()[-6000:]}", file=sys.stderr)
            return float("inf")
        time.sleep(0.001)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
