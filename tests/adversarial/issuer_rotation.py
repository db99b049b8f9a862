#!/usr/bin/env python3
"""An issuer rotates its key every 6 s, under load and a flood of random key ids: no valid token is refused.

    tests/adversarial/issuer_rotation.py                100 rotations in 10 minutes
    tests/adversarial/issuer_rotation.py --minutes 1

The old key is removed 30 s after the new one is published. A failure is any answer but 200 to a token whose key has been published for 6 s
and has not been removed.
"""

import asyncio
import random
import time

from lib.issuer_testbed import IssuerTestbed, Issuer, Key, options, paced, verdict
from lib.testbed import require

SETTLED, REMOVED_AFTER = 6.0, 30.0


class Rotation:
    """The times when each key is published, and the answers to its tokens."""

    def __init__(self, issuer):
        self.issuer, self.published, self.removed, self.cached = issuer, {}, {}, {}
        self.count = self.good = self.early = self.early_refused = 0
        self.wrong, self.lingered = [], 0.0
        self.publish()

    def publish(self):
        key = Key(f"key-{len(self.published)}")
        self.issuer.keys = [*self.issuer.keys, key]
        self.published[key] = time.monotonic()

    def remove_old(self):
        """Removes a key once its successor has been published for long enough."""
        now, order = time.monotonic(), list(self.published)
        for key, successor in zip(order, order[1:]):
            if key not in self.removed and now - self.published[successor] >= REMOVED_AFTER:
                self.issuer.keys = [other for other in self.issuer.keys if other is not key]
                self.removed[key] = time.monotonic()

    async def rotate(self, every, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() + every <= end:
            await asyncio.sleep(every)
            self.publish()
            self.count += 1
            self.remove_old()

    def draw(self):
        """Draws mostly the newest settled key. Also draws older keys, one that was just published, and one that was just removed."""
        now = time.monotonic()
        live = [key for key in self.published if key not in self.removed]
        settled = [key for key in live if now - self.published[key] >= SETTLED] or live[:1]
        chance = random.random()
        if chance < 0.6:
            key = settled[-1]
        elif chance < 0.85:
            key = random.choice(settled)
        elif chance < 0.95 or not self.removed:
            key = live[-1]
        else:
            key = list(self.removed)[-1]
        # Half of the tokens are new, so that they are not answered from memory.
        if random.random() < 0.5 or key not in self.cached:
            self.cached[key] = key.sign(self.issuer.name)
        return self.cached[key], key

    def judge(self, key, status, sent, answered):
        gone = self.removed.get(key)
        if gone is not None and answered >= gone:
            if status == 200:
                self.lingered = max(self.lingered, sent - gone)
        elif sent - self.published[key] < SETTLED:
            self.early += 1
            self.early_refused += status != 200
        else:
            self.good += 1
            if status != 200:
                self.wrong.append((key.kid, status, round(sent - self.published[key], 2)))


def main():
    parser = options(__doc__, 10)
    parser.add_argument("--every", type=float, default=6.0, help="seconds between two keys")
    parser.set_defaults(flood=2000)
    arguments = parser.parse_args()
    require(arguments.binary, "nginx", "wrk", "openssl", "taskset")
    issuer = Issuer()
    rotation = Rotation(issuer)
    issuer.start()
    testbed = IssuerTestbed(arguments.binary, issuer)
    try:
        testbed.start_gateway()
        testbed.ready()
        time.sleep(SETTLED)
        began = time.monotonic()
        seconds = arguments.minutes * 60
        flood = testbed.flood(arguments.flood, seconds)
        asyncio.run(load(testbed, rotation, arguments, seconds))
        rate, passed = testbed.flooded(flood)
    finally:
        testbed.close()
    remarks = [
        f"{rotation.early_refused} of {rotation.early} tokens of keys younger than {SETTLED:.0f} s were refused, which they may be",
        f"a removed key was accepted for {rotation.lingered:.1f} s at most",
        *(f"wrong: {wrong}" for wrong in rotation.wrong[:10]),
    ]
    verdict(f"{rotation.count} rotations in {arguments.minutes:g} min, {rotation.good} tokens that must be good, beside {rate:.0f} random key ids/s", [
        ("good tokens answered other than 200", "0", str(len(rotation.wrong)), not rotation.wrong and rotation.good > 0),
        ("random key ids let through", "0", str(passed), passed == 0),
        ("fetches in any 5 s", "<= 1", str(issuer.most_fetches(4.95, began)), issuer.most_fetches(4.95, began) <= 1),
    ], remarks)


async def load(testbed, rotation, arguments, seconds):
    await asyncio.gather(
        rotation.rotate(arguments.every, seconds),
        paced(testbed.port, arguments.rate, seconds, rotation.draw, rotation.judge),
    )


if __name__ == "__main__":
    main()
