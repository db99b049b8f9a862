#!/usr/bin/env python3
"""10,000 tokens a second with random key ids: the issuer gets one request in 5 s at most, and valid callers are hardly slower.

    tests/adversarial/kid_flood.py                5 minutes, in turns of 10 s: quiet, flood, and as a control as many valid tokens
    tests/adversarial/kid_flood.py --minutes 1

The gateway has core 0 and one worker. Flood (wrk), valid load and upstream share core 1. If the machine cannot make the whole flood, the
output says how much it made.
"""

import asyncio
import statistics
import time

from lib.issuer_testbed import IssuerTestbed, Issuer, Key, options, paced, percentile, verdict
from lib.testbed import require

TURN = 10
QUIET, FLOOD, BUSY = "quiet", "flood", "busy"
SLOWER = 1.5
# On an idle machine it is about one millisecond.
NOISY_MS = 10


def main():
    arguments = options(__doc__, 5).parse_args()
    require(arguments.binary, "nginx", "wrk", "openssl", "taskset")
    issuer = Issuer()
    issuer.keys = [Key("k1")]
    issuer.start()
    testbed = IssuerTestbed(arguments.binary, issuer)
    latencies, rates = {kind: [] for kind in (QUIET, FLOOD, BUSY)}, {FLOOD: [], BUSY: []}
    failed, passed = [], 0
    try:
        testbed.start_gateway()
        testbed.ready()
        token = issuer.keys[0].sign(issuer.name)
        began = time.monotonic()
        turns = max(3, round(arguments.minutes * 60 / TURN))
        for turn in range(turns):
            kind = (QUIET, FLOOD, BUSY)[turn % 3]
            latencies[kind].append([])

            def judge(_, status, sent, answered):
                latencies[kind][-1].append(answered - sent)
                if status != 200:
                    failed.append(status)

            beside = testbed.flood(arguments.flood, TURN, token if kind == BUSY else None) if kind != QUIET else None
            asyncio.run(paced(testbed.port, arguments.rate, TURN - 0.5, lambda: (token, None), judge))
            if beside:
                rate, through = testbed.flooded(beside)
                rates[kind].append(rate)
                passed += through if kind == FLOOD else 0
        most = issuer.most_fetches(4.95, began)
    finally:
        testbed.close()
    # The median over turns, so that other load on the machine disturbs one turn and not the result.
    typical = lambda share: {kind: statistics.median(percentile(turn, share) for turn in all) * 1000 for kind, all in latencies.items()}
    p50, p99 = typical(0.5), typical(0.99)
    reached, busy = (sum(rates[kind]) / len(rates[kind]) for kind in (FLOOD, BUSY))
    ratio = p99[FLOOD] / p99[QUIET]
    remarks = [
        f"control: beside {busy:.0f} valid requests/s on the flood's connections p99 is {p99[BUSY]:.2f} ms, {p99[BUSY] / p99[QUIET]:.2f} x the quiet one",
        f"p50 {p50[QUIET]:.2f} ms quiet, {p50[FLOOD]:.2f} ms with the flood, {p50[BUSY]:.2f} ms busy; {len(issuer.asked)} fetches in all",
    ]
    if reached < 0.95 * arguments.flood:
        remarks.append(f"this machine made {reached:.0f} of {arguments.flood} tokens/s")
    verdict(f"{reached:.0f} random key ids/s beside {arguments.rate} valid requests/s, {turns} turns of {TURN} s", [
        ("fetches in any 5 s", "<= 1", str(most), most <= 1),
        ("valid requests failed", "0", str(len(failed)), not failed),
        ("random key ids let through", "0", str(passed), passed == 0),
        ("p99 of valid requests, quiet (more is noise)", f"<= {NOISY_MS} ms", f"{p99[QUIET]:.2f} ms", p99[QUIET] <= NOISY_MS),
        ("p99 of valid requests, flood to quiet", f"<= {SLOWER} x", f"{ratio:.2f} x", ratio <= SLOWER),
    ], [f"p99 {p99[QUIET]:.2f} ms quiet, {p99[FLOOD]:.2f} ms with the flood", *remarks])


if __name__ == "__main__":
    main()
