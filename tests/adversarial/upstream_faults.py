#!/usr/bin/env python3
"""Upstreams that fail in thirty ways, among honest requests: no cut answer looks whole, none goes to another client, none is sent twice.

    tests/adversarial/upstream_faults.py              200 of each fault
    tests/adversarial/upstream_faults.py --times 20

One upstream answers honestly or fails as the path says, over connections that the gateway keeps and shares among all clients. Every request
has a number, and every honest answer repeats it in a field and in the body. A third of each fault are GET, HEAD and POST; between any two the
same client sends an honest request. Clients parse strictly, and retry as curl and browsers do: if a used connection ends without one byte of
the answer, the request is sent once more over a new one. Then the upstream must not have received it, if it is a POST.
"""

import argparse
import asyncio
import json
import random
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from lib.echo_testbed import Broken, Connection, EchoTestbed, at_least, none, verdict
from lib.testbed import PORTCULLIS, progress, require

PORT, UPSTREAM_PORT, CLOSED_PORT = 9142, 9160, 9161
THREADS = 32
CLOSES_IDLE = "closes idle connections"
OTHER = "HTTP/1.1 200 OK\r\nX-Echo: stray\r\nContent-Length: 5\r\n\r\nstray"
HUGE = "a" * 70_000
# The bytes instead of an answer, the next action of the upstream, and the statuses that the client may get. 0 is a
# connection that ended early.
FAULTS = {
    "refused connection": (None, None, {502}),
    "closes before the head": ([""], "close", {502}),
    "reset before the head": ([""], "reset", {502}),
    "reset in the head": (["HTTP/1.1 200 OK\r\nX-Ec"], "reset", {502}),
    "says nothing": ([""], "stay", {504}),
    "drips the head": (["HTTP/1.1 200 OK\r\n"] + ["X: a\r\n"] * 80, "drip", {504}),
    "length longer than the body": (["HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf of it"], "close", {0}),
    "length, reset in the body": (["HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", "half of it"], "reset", {0, 502}),
    "chunks cut": (["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"], "close", {0}),
    "chunks cut before the last line": (["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"], "close", {0}),
    "bad chunk": (["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n"], "stay", {0, 502}),
    "chunk size beyond all": (["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello"], "stay", {0, 502}),
    "stalls in the body": (["HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf of it"], "stay", {0}),
    "two lengths": (["HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"], "stay", {502}),
    "length that is no number": (["HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"], "stay", {502}),
    "coding that was not requested": (["HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"], "stay", {502}),
    "NUL in the head": (["HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"], "stay", {502}),
    "CR in the head": (["HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n"], "stay", {502}),
    "not HTTP": (["SSH-2.0-OpenSSH_9.9\r\n"], "stay", {502}),
    "early hints without end": (["HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"] * 80, "drip", {502}),
    "a protocol that was not requested": (["HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + OTHER], "stay", {502}),
    "a huge head": ([f"HTTP/1.1 200 OK\r\nX: {HUGE}\r\n\r\n"], "stay", {502}),
    "10,000 fields": (["HTTP/1.1 200 OK\r\n" + "X: a\r\n" * 10_000 + "\r\n"], "stay", {502}),
}
# Complete answers with bytes after them: the answer is valid, and these bytes must reach no client. A body that is not
# allowed arrives late, when another request could use the connection.
LATE = ("HEAD with a body, late", "304 with a body, late")
LEFTOVERS = {
    "another answer behind it": "HTTP/1.1 200 OK\r\nX-Echo: {case}\r\nContent-Length: 5\r\n\r\n{case:5.5}" + OTHER,
    "204 with a body": "HTTP/1.1 204 No Content\r\nX-Echo: {case}\r\nContent-Length: 5\r\n\r\n" + OTHER,
    "304 with a body": "HTTP/1.1 304 Not Modified\r\nX-Echo: {case}\r\nContent-Length: 5\r\n\r\n" + OTHER,
    "length and chunks": "HTTP/1.1 200 OK\r\nX-Echo: {case}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{case:5.5}\r\n0\r\n\r\n" + OTHER,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require(options.binary, "openssl")
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = EchoTestbed(folder, options.binary)
    upstream = Upstream()
    try:
        upstream.start()
        gateway = testbed.start_gateway(PORT, f"""
limits: {{body_idle_timeout: 1s, connections_per_address: unlimited}}
upstreams: {{faulty: "http://127.0.0.1:{UPSTREAM_PORT}", nobody: "http://127.0.0.1:{CLOSED_PORT}"}}
routes:
  - {{path: /nobody/**, upstream: nobody, access: public}}
  - {{path: /**, upstream: faulty, access: public, timeout: 1500ms}}
""")
        trial = Trial(upstream)
        trial.run(options)
        time.sleep(0.5)
        rows = trial.rows(testbed, options) + [none("panics, or an end", testbed.gateway_output().count("panicked") + (gateway.poll() is not None))]
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    trial.print_findings()
    verdict(rows)


class Upstream(threading.Thread):
    """Answers one request after the other, and fails if the path names a fault."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ready, self.seen, self.posts, self.connections = threading.Event(), Counter(), set(), 0

    def start(self):
        super().start()
        self.ready.wait()

    def run(self):
        asyncio.run(self.serve())

    async def serve(self):
        server = await asyncio.start_server(self.connection, "127.0.0.1", UPSTREAM_PORT, backlog=1024)
        self.ready.set()
        await server.serve_forever()

    async def connection(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
                await reader.readexactly(int(fields.get("content-length", 0)))
                method, target, _ = head.split(" ", 2)
                case = fields["x-case"]
                self.seen[case] += 1
                if method == "POST":
                    self.posts.add(case)
                if not await self.answer(writer, method, target, case):
                    break
                if target == "/idle" and random.random() < 0.5:
                    break  # closes a connection that the gateway considers reusable
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def answer(self, writer, method, target, case):
        name = target[1:].split("/")[0].replace("%20", " ")
        if name in LATE:
            status = "304 Not Modified" if name.startswith("304") else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nX-Echo: {case}\r\nContent-Length: {len(OTHER)}\r\n\r\n".encode())
            await asyncio.sleep(random.uniform(0, 0.01))
            writer.write(OTHER.encode())
            return True
        if name in LEFTOVERS:
            writer.write(LEFTOVERS[name].format(case=case).encode())
            return True
        if name not in FAULTS:
            body = "" if method == "HEAD" else f"honest {case}"
            writer.write(f"HTTP/1.1 200 OK\r\nX-Echo: {case}\r\nContent-Length: {len(f'honest {case}')}\r\n\r\n{body}".encode())
            return True
        pieces, then, _ = FAULTS[name]
        for piece in pieces:
            writer.write(piece.encode("latin-1"))
            await writer.drain()
            await asyncio.sleep(0.05 if then == "drip" else 0.002)
        if then in ("stay", "drip"):
            await asyncio.sleep(6)
        if then == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


class TrackedConnection(Connection):
    """Records whether any byte of the current answer has arrived."""

    used, has_begun = False, False

    def ask(self, *args, **more):
        self.has_begun = False
        answer = super().ask(*args, **more)
        self.used = True
        return answer

    def _more(self):
        super()._more()
        self.has_begun = True


class Trial:
    """Sends all faults, and collects every violation."""

    def __init__(self, upstream):
        self.upstream, self.lock, self.local = upstream, threading.Lock(), threading.local()
        self.sent, self.answers = Counter(), []
        self.whole, self.wrong, self.crossed, self.honest_failed = [], [], [], []
        self.concurrent, self.resent = 0, Counter()
        self.outcomes = {name: Counter() for name in [*FAULTS, *LEFTOVERS, *LATE, CLOSES_IDLE]}

    def run(self, options):
        work = [(name, number) for name in self.outcomes for number in range(options.times)]
        random.Random(options.seed).shuffle(work)
        with ThreadPoolExecutor(THREADS) as pool:
            for number, _ in enumerate(pool.map(lambda item: self.one(*item), work)):
                if number % 200 == 0:
                    progress(f"{number} of {len(work)}")

    def one(self, name, number):
        method = ("GET", "POST", "HEAD")[number % 3]
        method = "HEAD" if name.startswith("HEAD") else "GET" if name in LATE else method
        case = f"{number:03}{list(self.outcomes).index(name):02}f"
        path = "/nobody/x" if name == "refused connection" else "/idle" if name == CLOSES_IDLE else "/" + name.replace(" ", "%20")
        status, echo, body = self.ask(path, case, method)
        self.outcomes[name][status] += 1
        if name in FAULTS:
            # An answer to HEAD is complete after its head.
            expected = FAULTS[name][2] | ({200} if method == "HEAD" and 0 in FAULTS[name][2] else set())
            if status == 200 and method != "HEAD":
                self.note(self.whole, (name, case, body[:60]))
            elif status not in expected:
                self.note(self.wrong, (name, method, status))
        else:
            body_is_its = method == "HEAD" or status in (204, 304) or body.decode() in (f"honest {case}", case[:5])
            if (status not in (200, 204, 304) or not body_is_its) and not self.closed_concurrently(status, echo, body):
                self.note(self.wrong, (name, method, status, body[:60]))
        if echo not in (None, case):
            self.note(self.crossed, (name, case, echo))
        for again in range(2):
            honest = f"{case}h{again}"
            status, echo, body = self.ask("/honest", honest, "POST" if again else "GET")
            if (status, echo, body) != (200, honest, f"honest {honest}".encode()) and not self.closed_concurrently(status, echo, body):
                self.note(self.crossed if echo not in (None, honest) else self.honest_failed, (name, honest, status, echo, body[:60]))

    def closed_concurrently(self, status, echo, body):
        """An upstream may close its connection while a request is written, and the gateway cannot know whether it was read: 502, once."""
        so_it_was = status == 502 and echo is None and (not body or b"incomplete" in body)
        with self.lock:
            self.concurrent += so_it_was
        return so_it_was

    def ask(self, path, case, method):
        """(status, echo, body). The status is 0 if the connection ended before the answer was complete."""
        fields, body = ("Content-Length: 20\r\n", b"not to be sent twice") if method == "POST" else ("", b"")
        self.sent[case] += 1
        line = None
        try:
            line = self.local.line = getattr(self.local, "line", None) or TrackedConnection(PORT)
            status, found, received = line.ask(path, case, method, more=fields, body=body)
        except (Broken, OSError):
            self.local.line = None
            if line and line.used and not line.has_begun:
                with self.lock:
                    self.resent[method] += 1
                return self.ask(path, case, method)
            return 0, None, b""
        if found.get("connection") == "close":
            line.close()
            self.local.line = None
        with self.lock:
            self.answers.append((found.get("x-request-id"), status, found.get("x-echo")))
        return status, found.get("x-echo"), received

    def note(self, where, what):
        with self.lock:
            where.append(what)

    def rows(self, testbed, options):
        audit = {}
        for line in open(testbed.audit):
            line = json.loads(line)
            audit[line.get("gateway.request_id")] = (line.get("http.response.status_code"), line.get("gateway.reason"))
        unaudited = [answer for answer in self.answers if audit.get(answer[0], (0,))[0] != answer[1] or answer[1] >= 500 and not audit[answer[0]][1]]
        twice = [case for case, times in self.upstream.seen.items() if times > 1]
        posts = [case for case in twice if case in self.upstream.posts]
        never = [case for case in self.upstream.seen if case not in self.sent]
        self.found = {"whole": self.whole, "wrong": self.wrong, "crossed": self.crossed, "honest": self.honest_failed, "twice": twice, "unaudited": unaudited}
        return [
            at_least("kinds of fault", len(self.outcomes), 12),
            at_least("of each", min(sum(outcome.values()) for outcome in self.outcomes.values()), options.times),
            at_least("connections to the upstream", self.upstream.connections, 1),
            none("cut answers that looked whole", self.whole),
            none("crossed: answers, or parts of them, to another request", self.crossed),
            none("requests that reached the upstream twice", twice),
            none("POSTs that reached the upstream twice", posts),
            none("requests that a client sent again, as no byte arrived", list(self.resent.elements())),
            none("requests that no client sent", never),
            none("faults answered otherwise than by 502, 504 or a break", self.wrong),
            none("honest requests that failed", self.honest_failed),
            ("502 because the upstream closed just then", self.concurrent, "<= 1 %", self.concurrent <= len(self.answers) // 100),
            none("answers without their line and reason in the audit log", unaudited),
        ]

    def print_findings(self):
        progress("")
        for name, outcome in self.outcomes.items():
            print(f"{name:40}", ", ".join(f"{'broke' if not status else status} {count}" for status, count in sorted(outcome.items())))
        for what, found in getattr(self, "found", {}).items():
            for each in found[:8]:
                print(f"{what}: {each}")


main()
