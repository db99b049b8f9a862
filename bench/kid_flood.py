#!/usr/bin/env python3
"""10,000 tokens a second with random key ids: the issuer is asked once in 5 s at most, and valid callers hardly notice.

    bench/kid_flood.py                5 minutes, with and without the flood in turns of 10 s
    bench/kid_flood.py --minutes 1    to try it

The gateway has core 0 and one worker; flood (wrk), valid load and upstream share core 1. Where the machine can't make the flood,
what was reached is said. Needs nginx, wrk, openssl, taskset (Debian: apt-get install nginx-light wrk openssl util-linux), Python's
`cryptography` (tests/install-outside.sh), and a release build.
"""

import asyncio
import time

from issuer_world import Bench, Issuer, Key, options, paced, percentile, require, verdict

TURN = 10
SLOWER = 1.5


def main():
    arguments = options(__doc__, 5).parse_args()
    require(arguments.gateway)
    issuer = Issuer()
    issuer.keys = [Key("k1")]
    issuer.start()
    bench = Bench(arguments.gateway, issuer)
    latencies, failed, rates, passed = {False: [], True: []}, [], [], 0
    try:
        bench.start_gateway()
        bench.ready()
        token = issuer.keys[0].sign(issuer.name)
        began = time.monotonic()
        turns = max(2, round(arguments.minutes * 60 / TURN))
        for turn in range(turns):
            flooding = turn % 2 == 1
            flood = bench.flood(arguments.flood, TURN) if flooding else None

            def judge(_, status, sent, answered):
                latencies[flooding].append(answered - sent)
                if status != 200:
                    failed.append(status)

            asyncio.run(paced(bench.port, arguments.rate, TURN - 0.5, lambda: (token, None), judge))
            if flood:
                rate, through = bench.flooded(flood)
                rates.append(rate)
                passed += through
        most = issuer.most_fetches(4.95, began)
    finally:
        bench.close()
    quiet, flooded = (percentile(latencies[flooding], 0.99) * 1000 for flooding in (False, True))
    reached = sum(rates) / len(rates)
    ratio = flooded / quiet
    remarks = [f"p50 {percentile(latencies[False], 0.5) * 1000:.2f} ms without, {percentile(latencies[True], 0.5) * 1000:.2f} ms with the flood; {len(issuer.asked)} fetches in all"]
    if reached < 0.95 * arguments.flood:
        remarks.append(f"this machine made {reached:.0f} of {arguments.flood} tokens/s")
    verdict(f"{reached:.0f} random key ids/s beside {arguments.rate} valid requests/s, {turns} turns of {TURN} s", [
        ("fetches in any 5 s", "<= 1", str(most), most <= 1),
        ("valid requests failed", "0", str(len(failed)), not failed),
        ("random key ids let through", "0", str(passed), passed == 0),
        ("p99 of valid requests, quiet", "", f"{quiet:.2f} ms", True),
        ("p99 of valid requests, flood", f"<= {SLOWER} x", f"{flooded:.2f} ms", ratio <= SLOWER),
        ("p99, flood to quiet", f"<= {SLOWER}", f"{ratio:.2f}", ratio <= SLOWER),
    ], remarks)


if __name__ == "__main__":
    main()
