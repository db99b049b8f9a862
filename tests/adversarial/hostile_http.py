#!/usr/bin/env python3
"""Hostile HTTP/1.1 over TLS: no request is smuggled, none passes without its token, no answer goes to another client.

    tests/adversarial/hostile_http.py                 2,000 inputs and more, each before five upstreams
    tests/adversarial/hostile_http.py --every 10      one in ten of them
    tests/adversarial/hostile_http.py --mutants 5000 --seed 7 --kinds node python

An input is one connection: a hostile request, alone or behind an honest one, with another request hidden where a parser that sees the end
elsewhere would find it, and an honest one to close. The inputs are the known ways to make a gateway and a server disagree, combined with
each other, and mutants of them from a seed. A recorder between the gateway and nginx, Apache httpd, Node, Python's http.server and HAProxy
keeps every byte. Every request has a number, and every answer repeats it. A strict parser of this test reads the recorded bytes, the
upstream's log says what the upstream understood, and the audit log says what the gateway decided. All must agree. A client with a token
sends requests throughout.

The gateway counts refusals of callers without credentials instead of writing a line each when there are many. Such answers must be covered
by the counts.
"""

import argparse
import random
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from hostile_inputs import SECRET_WORD, catalogue, mutants
from lib.audit_log import AuditLog
from lib.echo_testbed import KINDS, Broken, Connection, EchoTestbed, at_least, descriptors, none, require_tools, resident, verdict
from lib.testbed import PORTCULLIS, grant, progress
from recorded import RecordedAnswers, read_records, start_recorders, step

PORT = 9141
RECORDER_PORT = 9150
THREADS = 12
CANARY_EVERY = 10
MEMORY_MIB = 192
TIMEOUT = 15


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=1200)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", help="print what became of the inputs whose name contains this")
    parser.add_argument("--binary", default=PORTCULLIS)
    options = parser.parse_args()
    require_tools(options.binary)
    inputs = (catalogue() + mutants(random.Random(options.seed), options.mutants))[::options.every]
    folder = tempfile.mkdtemp(prefix="portcullis-bench-")
    testbed = EchoTestbed(folder, options.binary)
    try:
        testbed.start_echoes()
        start_recorders(testbed, KINDS, RECORDER_PORT)
        gateway = testbed.start_gateway(PORT, config())
        trial = Trial(options, grant(PORT))
        trial.request_canaries(-1)
        before = descriptors(gateway)
        trial.run(inputs)
        left = wait_for_descriptors(gateway, before)
        memory = resident(gateway)
        ended = gateway.poll() is not None
        time.sleep(1)  # for the last lines of the logs
        rows = trial.rows(testbed, len(inputs)) + [
            none("panics, or an end", testbed.gateway_output().count("panicked") + ended),
            none("planted secrets in what the gateway wrote", testbed.gateway_output().count(SECRET_WORD)),
            none("descriptors that did not come back", left),
            ("resident memory afterwards, MiB", memory, f"<= {MEMORY_MIB}", memory <= MEMORY_MIB),
        ]
    finally:
        testbed.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    trial.print_findings()
    verdict(rows)


def config():
    routes = []
    for number, kind in enumerate(KINDS):
        routes.append(f"  - {{path: /k{number}/open/**, upstream: {kind}, access: public}}")
        routes.append(f"  - {{path: /k{number}/small/**, upstream: {kind}, access: public, body_bytes: 16B}}")
        routes.append(f"  - {{path: /k{number}/closed/**, upstream: {kind}, access: {{scopes: [read:data]}}}}")
    upstreams = "\n".join(f"  {kind}: \"http://127.0.0.1:{RECORDER_PORT + number}\"" for number, kind in enumerate(KINDS))
    limits = "limits: {header_timeout: 1s, first_request_timeout: 2s, idle_timeout: 2s, body_idle_timeout: 500ms, connections_per_address: unlimited}"
    return f"{limits}\nupstreams:\n{upstreams}\nroutes:\n" + "\n".join(routes)


class Trial:
    """Sends all inputs, and collects every violation."""

    def __init__(self, options, token):
        self.options, self.token = options, token
        self.lock, self.local = threading.Lock(), threading.local()
        self.expected, self.answers = {}, []
        self.crossed, self.hanging, self.tunnels, self.unparsed, self.missing, self.canaries = [], [], [], [], [], []
        self.statuses, self.notes, self.canary_count, self.done = Counter(), [], 0, 0

    def run(self, inputs):
        work = [(number, kind, entry) for number, entry in enumerate(inputs) for kind in self.options.kinds]
        with ThreadPoolExecutor(THREADS) as pool:
            for number, result in enumerate(pool.map(lambda item: self.one(*item), work)):
                if number % 200 == 0:
                    progress(f"{number} of {len(work)}")

    def one(self, number, kind, entry):
        unsent, requests = entry.build(KINDS.index(kind), number)
        answers, ended = self.exchange(unsent)
        read = self.read(number, entry, requests, answers)
        with self.lock:
            self.done += 1
            for case, fate, _ in requests:
                self.expected[case] = (fate, entry.name)
            if not ended:
                self.hanging.append((number, entry.name))
            self.statuses.update(status for status, *_ in read[:-1] or read)
            if self.options.show and self.options.show in entry.name:
                self.notes.append((number, kind, entry.name, [status for status, *_ in read]))
        if self.done % CANARY_EVERY == 0:
            self.request_canaries(number)

    def exchange(self, unsent):
        """All bytes received in answer to these, and whether the connection ended."""
        received, ends = b"", time.monotonic() + TIMEOUT
        try:
            line = Connection(PORT)
        except OSError as error:
            return f"no connection: {error}".encode(), False
        line.socket.settimeout(0)
        try:
            while time.monotonic() < ends:
                unsent, data = step(line.socket, unsent)
                if data == b"":
                    return received, True
                received += data or b""
            return received, False
        finally:
            line.close()

    def read(self, number, entry, requests, data):
        """The answers in these bytes, one after the other."""
        line, read, expected = RecordedAnswers(data), [], iter(requests)
        while line.unread:
            method = next((each[2] for each in expected), "GET")
            try:
                status, fields, _ = line.answer(method)
            except Broken as error:
                with self.lock:
                    self.unparsed.append((number, entry.name, str(error), data[:200]))
                break
            read.append((status, fields.get("x-echo"), fields.get("x-request-id")))
        cases = iter([case for case, *_ in requests])
        with self.lock:
            for status, echo, request_id in read:
                # Answers come in the order of the requests, each at most once, and none belongs to another connection.
                if echo and echo not in cases:
                    self.crossed.append((number, entry.name, echo))
                if status == 101:
                    self.tunnels.append((number, entry.name))
                self.answers.append((request_id, status, echo))
            answered = {echo for _, echo, _ in read}
            self.missing += [(case, entry.name) for case, fate, _ in requests if fate == "must" and case not in answered]
        return read

    def request_canaries(self, number):
        for kind in KINDS:
            with self.lock:
                self.canary_count += 1
                case = f"canary{self.canary_count}"
                self.expected[case] = ("must", "canary")
            answer = self.canary(kind, case)
            if answer != (200, case):
                with self.lock:
                    self.canaries.append((number, kind, answer))

    def canary(self, kind, case):
        # An idle connection may be closed just when it is used: the request is sent once more, as any client would do.
        for _ in range(2):
            try:
                self.local.line = getattr(self.local, "line", None) or Connection(PORT)
                status, fields, _ = self.local.line.ask(f"/k{KINDS.index(kind)}/closed/canary", case, more=f"Authorization: Bearer {self.token}\r\n")
                return status, fields.get("x-echo")
            except (Broken, OSError) as error:
                self.local.line, answer = None, (0, str(error))
        return answer

    def rows(self, testbed, count):
        recorded, malformed, forged = read_records(testbed, self.options.kinds)
        seen = [(case, method, target) for kind in self.options.kinds for case, method, target in testbed.seen(kind)]
        upstream = Counter(case for case, *_ in seen)
        begun, whole = Counter(case for case, _ in recorded), Counter(case for case, ended in recorded if ended)
        unknown = [each for each in seen if each[0] not in self.expected] + [case for case in begun if case not in self.expected]
        smuggled = [(case, self.expected[case]) for case in {*upstream, *begun} if case in self.expected and self.expected[case][0] == "never"]
        closed = [each for each in seen if re.match(r"/k\d/closed", each[2]) and not each[0].startswith("canary")]
        twice = [case for case, times in (upstream | begun).items() if times > 1 and case in self.expected]
        apart = [(case, self.expected.get(case), upstream[case], begun[case], whole[case]) for case in {*upstream, *begun} if upstream[case] > begun[case] or whole[case] > upstream[case]]
        audit = AuditLog(testbed.audit)
        unaudited, misjudged = audit.unrecorded(self.answers), audit.not_allowed(self.answers)
        self.counted = audit.refusals.total() + audit.decisions.total()
        self.found = {"smuggled": smuggled, "unknown": unknown, "malformed": malformed, "forged": forged, "twice": twice, "apart": apart, "closed": closed,
                      "unaudited": unaudited, "misjudged": misjudged, "crossed": self.crossed, "tunnels": self.tunnels,
                      "hanging": self.hanging, "unparsed": self.unparsed, "missing": self.missing, "canaries": self.canaries}
        return [
            at_least("inputs", count, 2000 if self.options.every == 1 else 1),
            at_least("connections, inputs before each upstream", self.done, count * len(self.options.kinds)),
            at_least("requests that reached an upstream", sum(upstream.values()), count),
            none("smuggled: seen although refused or hidden in another", smuggled),
            none("seen by an upstream but never sent", unknown),
            none("unauthorised: closed paths seen without a token", closed),
            none("seen twice", twice),
            none("upstream and recorder do not agree", apart),
            none("written to an upstream not strictly as HTTP/1.1 is", malformed),
            none("forged or hop-by-hop fields written to an upstream", forged),
            none("crossed: answers to another request, or out of order", self.crossed),
            none("tunnels", self.tunnels),
            none("honest requests without their answer", self.missing),
            none("answers that are not whole", self.unparsed),
            none("connections left hanging", self.hanging),
            none("answers without their line or count in the audit log", unaudited),
            none("answers of an upstream not audited as allowed", misjudged),
            at_least("requests of the client with a token", self.canary_count, 5),
            none("of these, failed", self.canaries),
        ]

    def print_findings(self):
        progress("")
        for what, found in getattr(self, "found", {}).items():
            for each in found[:8]:
                print(f"{what}: {each}")
        for note in self.notes:
            print(*note)
        print(f"decisions that the audit log counts without a line of their own: {getattr(self, 'counted', 0)}")
        print("answers:", ", ".join(f"{status} {count}" for status, count in sorted(self.statuses.items())))


def wait_for_descriptors(process, before):
    """Connections to upstreams may idle for a while."""
    ends = time.monotonic() + 40
    while process.poll() is None and descriptors(process) > before + THREADS and time.monotonic() < ends:
        time.sleep(0.5)
    return max(0, descriptors(process) - before - THREADS) if process.poll() is None else 0


main()
