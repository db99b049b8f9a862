#!/usr/bin/env python3
"""SIGTERM under load, repeatedly: every request that an upstream saw is answered whole, and the exit code is 0.

    tests/adversarial/sigterm.py                      100 times
    tests/adversarial/sigterm.py --times 10 --clients 300

Each time the gateway is started, clients send requests over their own TLS connections to an upstream that takes up to 300 ms. At a random
moment, with 200 requests or more in flight, the gateway gets SIGTERM. Clients go on until they are refused. A request is lost if the upstream
has seen it and its client has not had the whole answer. A connection that ends before the upstream has seen its request is a clean refusal.
"""

import argparse
import asyncio
import random
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections import Counter

from lib.echo_testbed import Connection, EchoTestbed, at_least, none, verdict
from lib.testbed import PORTCULLIS, progress, require

PORT, UPSTREAM_PORT = 9143, 9162
LEAST_IN_FLIGHT = 200
DRAIN = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--clients", type=int, default=320)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "openssl")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = EchoTestbed(folder, options.binary)
    try:
        trial = Trial(testbed, options)
        asyncio.run(trial.run())
        panics = testbed.gateway_output().count("panicked")
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    progress("")
    for each in trial.lost[:10] + trial.unclean[:10] + trial.bad_exits[:10]:
        print(each)
    print(f"answered {trial.counts['answered']}, shed {trial.counts['shed']}, refused on a connection {trial.counts['refused']}, connections refused {trial.counts['no connection']}")
    print(f"from SIGTERM to the end, at most {max(trial.took):.2f} s, with {min(trial.in_flight)} to {max(trial.in_flight)} under way")
    verdict([
        at_least("SIGTERMs", len(trial.took), options.times),
        at_least("requests under way at each, at least", min(trial.in_flight), LEAST_IN_FLIGHT),
        none("lost: seen by the upstream, and not answered whole", trial.lost),
        none("answers other than 200, or cut", trial.unclean),
        none("answers without their line in the audit log", trial.unaudited),
        none("ended other than with 0", trial.bad_exits),
        none("panics", panics),
    ])


class Trial:
    def __init__(self, testbed, options):
        self.testbed, self.options, self.random = testbed, options, random.Random(options.seed)
        self.seen, self.answered = set(), set()
        self.counts, self.took, self.in_flight = Counter(), [], []
        self.lost, self.unclean, self.bad_exits, self.unaudited = [], [], [], []

    async def run(self):
        server = await asyncio.start_server(self.upstream, "127.0.0.1", UPSTREAM_PORT, backlog=4096)
        async with server:
            for number in range(self.options.times):
                await self.once(number)
                progress(f"{number + 1} of {self.options.times}, {len(self.lost)} lost")
        lines = open(self.testbed.audit).read()
        audited = {line.split('"', 1)[0] for line in lines.split('"url.path":"/')[1:]}
        self.unaudited = list(self.answered - audited)

    async def upstream(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                case = head.split(" ", 2)[1][1:]
                self.seen.add(case)
                await asyncio.sleep(self.random.uniform(0.05, 0.3))
                body = f"answer to {case}"
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body[:4]}".encode())
                await asyncio.sleep(self.random.choice((0, 0, 0.02)))
                writer.write(body[4:].encode())
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def once(self, number):
        self.seen, self.waiting, self.ending = set(), 0, False
        gateway = await asyncio.to_thread(self.start)
        clients = [asyncio.create_task(self.client(f"{number}.{each}")) for each in range(self.options.clients)]
        while len(self.seen) < LEAST_IN_FLIGHT:
            await asyncio.sleep(0.005)
        await asyncio.sleep(self.random.uniform(0, 0.6))
        while self.waiting < LEAST_IN_FLIGHT:
            await asyncio.sleep(0.005)
        self.in_flight.append(self.waiting)
        self.ending, began = True, time.monotonic()
        gateway.send_signal(signal.SIGTERM)
        await asyncio.wait(clients, timeout=DRAIN + 5)
        left = [client for client in clients if not client.done()]
        for client in left:
            client.cancel()
        code = await asyncio.to_thread(self.exit_code, gateway)
        self.took.append(time.monotonic() - began)
        if code != 0 or left:
            self.bad_exits.append(f"time {number}: exit code {code}, {len(left)} clients left")
        self.lost += [f"time {number}: {case} is lost" for case in self.seen - self.answered]

    def start(self):
        return self.testbed.start_gateway(PORT, f"""
shutdown: {{drain: {DRAIN}s}}
limits: {{connections_per_address: unlimited}}
upstreams: {{slow: "http://127.0.0.1:{UPSTREAM_PORT}"}}
routes: [{{path: /**, upstream: slow, access: public}}]
""")

    def exit_code(self, gateway):
        try:
            code = gateway.wait(DRAIN + 5)
        except subprocess.TimeoutExpired:
            gateway.kill()
            code = f"killed, {gateway.wait()}"
        self.testbed.running.remove(gateway)
        return code

    async def client(self, name):
        """Sends one request after the other, over a new connection if the last one has ended, until connections are refused."""
        number = 0
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", PORT, ssl=Connection.CONTEXT, server_hostname="localhost")
            except (OSError, ssl.SSLError):
                self.counts["no connection"] += 1
                if self.ending:
                    return
                await asyncio.sleep(0.01)
                continue
            try:
                kept = True
                while kept:
                    number += 1
                    # Some clients wait with an open connection, others open a new one: SIGTERM meets both.
                    kept = await self.ask(reader, writer, f"{name}.{number}") and self.random.random() < 0.8
                    if kept and self.random.random() < 0.3:
                        await asyncio.sleep(self.random.uniform(0, 0.05))
            finally:
                writer.transport.abort()

    async def ask(self, reader, writer, case):
        """Sends one request. Returns whether another one may follow."""
        self.waiting += 1
        try:
            writer.write(f"GET /{case} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
            body = (await reader.readexactly(length)).decode()
        except (asyncio.IncompleteReadError, OSError, ssl.SSLError) as error:
            if isinstance(error, asyncio.IncompleteReadError) and error.partial:
                self.unclean.append(f"{case}: cut after {error.partial[:80]!r}")
            self.counts["refused"] += 1
            return False
        finally:
            self.waiting -= 1
        if head.startswith("HTTP/1.1 503 "):
            # Hundreds of handshakes at once may be too many for the machine. Then the gateway answers that it refuses
            # them.
            self.counts["shed"] += 1
            return "connection: close" not in head.lower()
        if not head.startswith("HTTP/1.1 200 ") or body != f"answer to {case}":
            self.unclean.append(f"{case}: {head[:60]!r} {body[:60]!r}")
        self.answered.add(case)
        self.counts["answered"] += 1
        return "connection: close" not in head.lower()


main()
